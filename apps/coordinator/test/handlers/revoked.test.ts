import type { Fault } from "@tutti/foundation/fault";
import { survivors } from "@tutti/round/summing";
import { RevokeRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { plan, temporary } from "../drive/house.ts";
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

  test("for who is not enrolled it is an error", async () => {
    const nobody = create(RevokeRequestSchema, { device: "nobody" });
    const code = await desk.owner.revoke(nobody, OWNER).catch((fault: Fault) => fault.code);
    expect(code).toBe("not-found");
  });
});
