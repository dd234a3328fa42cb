import { Fault } from "@tutti/foundation/fault";
import { NO_REVOCATIONS, readRevocations, signRevocations, withRevoked } from "@tutti/release/revocations";
import { survivors } from "@tutti/round/summing";
import { RevokeRequestSchema } from "@tutti/wire/admin";
import { create, encode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NOW_S } from "../../../../libs/round/test/cast.ts";
import { plan, OWNER as SIGNER, temporary } from "../drive/house.ts";
import { callOf, Desk } from "./desk.ts";

const ABCD = ["a", "b", "c", "d"];
const ABC = ["a", "b", "c"];
const OWNER = callOf("owner", "owner");
const request = create(RevokeRequestSchema, { device: "d" });

describe("a device that is revoked", () => {
  let place: ReturnType<typeof temporary>;
  let desk: Desk;
  beforeEach(async () => {
    place = temporary();
    desk = await Desk.open(place.folder);
    for (const name of ABCD) {
      const certificate = new Uint8Array([1]);
      await desk.store.addDevice({ name, serial: new TextEncoder().encode(name), certificate });
    }
  });
  afterEach(async () => {
    await desk.close();
    place.remove();
  });

  test.each([1, 2, 3, 4])(
    "after answer %d of a round: out of it when the command returns",
    async (answers) => {
      await desk.startRun(plan());
      const [, , , line] = await desk.gather(...ABCD);
      for (let at = 0; at < answers; at++) await desk.answer(...ABCD);
      const late = await desk.answerOf("d");
      await desk.owner.revoke(request, OWNER);
      expect(desk.round?.revoked.has("d")).toBe(true);
      expect(desk.round?.connected.has("d")).toBe(false);
      await desk.settle();
      expect(line?.ended).toBe(true);
      // As if it had been let in just before.
      await expect(desk.send("d", late)).rejects.toMatchObject({ code: "refused" });
      const again = desk.devices.listen({ $typeName: "tutti.v1.ListenRequest" }, callOf("d", "device"));
      await expect(again[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "refused" });
      for (let at = answers; at < 6; at++) await desk.answer(...ABC);
      await desk.settle();
      const history = desk.driver!.header.history;
      // Its vector was in the sum by the fourth answer: nobody can take it out.
      expect(history[0]?.survivors ?? desk.round?.cohorts.map(({ sum }) => survivors(sum).length)[0]).toBe(
        answers < 4 ? 3 : 4,
      );
    },
  );

  test("while it was ready: no cohort has it in, after a crash between the two writes either", async () => {
    await desk.startRun(plan());
    await desk.gather(...ABCD);
    await desk.answer("d");
    expect(desk.round?.ready.has("d")).toBe(true);
    await desk.store.trust.revoke("d", null);
    await desk.close();
    desk = await Desk.open(place.folder);
    expect(desk.round?.revoked).toEqual(new Set(["d"]));
    for (const name of ABC) desk.listen(name);
    await desk.settle();
    await desk.answer(...ABC);
    await desk.settle();
    expect([...desk.round!.cohorts[0]!.sum.members].sort()).toEqual(ABC);
  });

  test("though it left before: by a coordinator that was killed between the two writes", async () => {
    await desk.startRun(plan());
    const [, , , line] = await desk.gather(...ABCD);
    await desk.answer("d");
    line!.call.stop.abort();
    while (desk.round?.connected.has("d") && desk.clock.next()) await desk.settle();
    expect([desk.round?.invited.has("d"), desk.round?.connected.has("d")]).toEqual([true, false]);
    await desk.store.trust.revoke("d", null);
    await desk.close();
    desk = await Desk.open(place.folder);
    expect(desk.round?.revoked).toEqual(new Set(["d"]));
  });

  test("is told of in the log, with who did it, and once however often it is asked for", async () => {
    await desk.owner.revoke(request, OWNER);
    const { count } = await desk.store.auditHead();
    await desk.owner.revoke(request, OWNER);
    expect((await desk.store.auditHead()).count).toBe(count);
    const line = { level: "info", device: "d", by: "owner" };
    expect(desk.logged.filter(({ event }) => event === "device.revoked")).toMatchObject([line]);
  });

  test("for who is not enrolled it is an error", async () => {
    const nobody = create(RevokeRequestSchema, { device: "nobody" });
    const code = await desk.owner.revoke(nobody, OWNER).catch((fault: Fault) => fault.code);
    expect(code).toBe("not-found");
  });

  test("no store is asked of a name that no certificate can have", async () => {
    const asked: string[] = [];
    desk.store.trust.revoke = async (name) => asked.push(name) > 0;
    for (const device of ["d\0", "", "d/../e", "d".repeat(65)]) {
      const odd = create(RevokeRequestSchema, { device });
      await expect(desk.owner.revoke(odd, OWNER)).rejects.toMatchObject({ code: "not-found" });
    }
    expect(asked).toEqual([]);
  });

  describe("by storage that fails", () => {
    let madeS = NOW_S;
    /** As `tutti revoke` does: the coordinator's newest list and one more, signed now. */
    const revoke = (device: string, version = 0) => {
      const { payload } = desk.coordinator.notices.revocations();
      const before = payload.length > 0 ? readRevocations(payload) : NO_REVOCATIONS;
      const list = withRevoked(before, { name: device, serial: Uint8Array.of(1), nowS: madeS++ });
      if (version > 0) list.version = version;
      const revocations = signRevocations(list, SIGNER);
      return desk.owner.revoke(create(RevokeRequestSchema, { device, revocations }), OWNER);
    };
    const broken = () => new Fault("storage", "a test", { got: "EIO" });
    /** The store fails to revoke once, before it did anything or after. */
    const breaks = (when: "before" | "after") => {
      const { trust } = desk.store;
      const { revoke } = trust;
      trust.revoke = async (...about) => {
        trust.revoke = revoke;
        if (when === "after") await revoke(...about);
        throw broken();
      };
    };
    /** It fails to, once; the write goes on, and is durable when somebody has waited for it long enough. */
    const lags = ({ givenUp = 0 } = {}) => {
      const { trust } = desk.store;
      const { revoke, outwait } = trust;
      trust.revoke = async (...about) => {
        trust.revoke = revoke;
        trust.outwait = async () => {
          if (givenUp-- > 0) throw broken();
          trust.outwait = outwait;
          await revoke(...about);
        };
        throw new Fault("unavailable", "a test", { got: "a timeout" });
      };
    };
    const passing = async (until: Promise<unknown>) => {
      let isOver = false;
      const over = () => {
        isOver = true;
      };
      until.then(over, over);
      for (let turn = 0; turn < 50 && !isOver; turn++) {
        await desk.settle();
        if (!isOver) desk.clock.next();
      }
      return await until;
    };
    const isOut = (device: string) =>
      desk.round!.revoked.has(device) &&
      !desk.round!.connected.has(device) &&
      !desk.coordinator.presence.isHere(device);
    const isIn = (device: string) =>
      !desk.round!.revoked.has(device) &&
      desk.round!.connected.has(device) &&
      desk.coordinator.presence.isHere(device);
    const version = () => desk.coordinator.notices.notice.revocations;

    beforeEach(async () => {
      await desk.startRun(plan());
      await desk.gather(...ABCD);
    });

    test("after it is durable: it is done, and the next one goes on from there", async () => {
      breaks("after");
      await revoke("d");
      expect([isOut("d"), version()]).toEqual([true, 1]);
      await revoke("c");
      expect([isOut("c"), version()]).toEqual([true, 2]);
    });

    test("while it is being made durable: that is waited for, and it is done", async () => {
      lags();
      await revoke("d");
      expect([isOut("d"), version()]).toEqual([true, 1]);
      await revoke("c");
      expect([isOut("c"), version()]).toEqual([true, 2]);
    });

    test("for so long that it is durable only later: it is done then, with nobody asking again", async () => {
      lags({ givenUp: 1 });
      await expect(revoke("d")).rejects.toMatchObject({ code: "unavailable" });
      for (let turn = 0; turn < 20 && !isOut("d"); turn++) {
        desk.clock.next();
        await desk.settle();
      }
      expect([isOut("d"), version()]).toEqual([true, 1]);
    });

    test("before it is durable: it is said so, nobody is out, and asking again does it", async () => {
      breaks("before");
      await expect(revoke("d")).rejects.toMatchObject({ code: "storage" });
      expect([isOut("d"), version()]).toEqual([false, 0]);
      await revoke("d");
      await revoke("c");
      expect([isOut("d"), isOut("c"), version()]).toEqual([true, true, 2]);
    });

    test("before it is durable, without a list: it is said so, too", async () => {
      breaks("before");
      await expect(desk.owner.revoke(request, OWNER)).rejects.toMatchObject({ code: "storage" });
      expect(isOut("d")).toBe(false);
    });

    test("before it is durable, and so that nobody can say: nobody is out once it is known", async () => {
      breaks("before");
      const { trust } = desk.store;
      const { outwait } = trust;
      let looks = 0;
      trust.outwait = async () => {
        if (looks++ === 0) throw broken();
        await outwait();
      };
      await expect(revoke("d")).rejects.toMatchObject({ code: "unavailable" });
      while (looks < 2) {
        desk.clock.next();
        await desk.settle();
      }
      expect([isIn("d"), version()]).toEqual([true, 0]);
    });

    test("and that has another's list all the same: that one is out at the next revocation", async () => {
      const list = withRevoked(NO_REVOCATIONS, { name: "c", serial: Uint8Array.of(1), nowS: madeS++ });
      const envelope = encode(SignedEnvelopeSchema, signRevocations(list, SIGNER));
      await desk.store.trust.revoke("c", { version: list.version, envelope });
      expect(isIn("c")).toBe(true);
      // Signed by who could not know of it.
      await expect(revoke("d")).rejects.toMatchObject({ what: "revocations" });
      expect([isOut("c"), isIn("d")]).toEqual([true, true]);
      await revoke("d");
      expect([isOut("d"), version()]).toEqual([true, 2]);
    });

    test("while the round is told: it is told again, until it is", async () => {
      let left = 1;
      desk.weather.onOperation = (name) => {
        if (name === "commit" && left-- > 0) throw broken();
      };
      await passing(revoke("d"));
      expect([isOut("d"), version()]).toEqual([true, 1]);
      await revoke("c");
      expect([isOut("c"), version()]).toEqual([true, 2]);
    });

    test("for long while the round is told: who asks hears so, and it is done all the same", async () => {
      let isBroken = true;
      desk.weather.onOperation = (name) => {
        if (name === "commit" && isBroken) throw broken();
      };
      await expect(passing(revoke("d"))).rejects.toMatchObject({ code: "unavailable" });
      isBroken = false;
      for (let turn = 0; turn < 20 && !isOut("d"); turn++) {
        desk.clock.next();
        await desk.settle();
      }
      expect([isOut("d"), version()]).toEqual([true, 1]);
      await revoke("c");
      expect([isOut("c"), version()]).toEqual([true, 2]);
    });

    test("so that nobody can say: looked up until it is known, with nobody asking again", async () => {
      breaks("after");
      let left = 2;
      const read = desk.store.trust.statement;
      // The first is read before it is written.
      desk.store.trust.statement = async (kind) => {
        if (left-- === 1) throw broken();
        return await read(kind);
      };
      await expect(revoke("d")).rejects.toMatchObject({ code: "unavailable" });
      for (let turn = 0; turn < 20 && !isOut("d"); turn++) {
        desk.clock.next();
        await desk.settle();
      }
      expect([isOut("d"), version()]).toEqual([true, 1]);
      // The same version, signed again by who read the list before.
      await revoke("d", 1);
      await revoke("c");
      expect([isOut("c"), version()]).toEqual([true, 2]);
    });
  });
});
