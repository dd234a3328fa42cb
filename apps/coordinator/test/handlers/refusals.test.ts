import type { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { termsOf } from "@tutti/round/spec";
import {
  HistoryRequestSchema,
  ReleasesRequestSchema,
  RevokeRequestSchema,
  RunRequestSchema,
  StartRunRequestSchema,
} from "@tutti/wire/admin";
import { EnrollRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import {
  CheckInRequestSchema,
  DeclineRequestSchema,
  FetchRequestSchema,
  ListenRequestSchema,
  ReadyRequestSchema,
  ReportRequestSchema,
} from "@tutti/wire/round";
import type { Call } from "@tutti/wire/rpc";
import {
  AdvertiseRequestSchema,
  AttestRequestSchema,
  PickRequestSchema,
  RevealRequestSchema,
  ShareRequestSchema,
  UploadStatusRequestSchema,
} from "@tutti/wire/secagg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { plan, temporary } from "../drive/house.ts";
import { callOf, Desk, parts, STRANGER, stream, type UploadShape, uploadOf } from "./desk.ts";

const ABC = ["a", "b", "c"];
let place: ReturnType<typeof temporary>;
let desk: Desk;

beforeEach(async () => {
  place = temporary();
  desk = await Desk.open(place.folder);
  await desk.startRun(plan());
  await desk.gather(...ABC);
});
afterEach(async () => {
  await desk.close();
  place.remove();
});

/** The code of the refusal; the state must be as it was. */
async function refusal(act: () => unknown): Promise<string> {
  const before = await desk.state();
  let code = "taken";
  try {
    const result = act() as { [Symbol.asyncIterator]?: () => AsyncIterator<unknown> };
    await (result[Symbol.asyncIterator] ? result[Symbol.asyncIterator]!().next() : result);
  } catch (fault) {
    code = (fault as Fault).code;
  }
  await desk.settle();
  expect((await desk.state()) as object).toEqual(before);
  return code;
}

/** Lets everybody answer so many words. */
async function go(times: number): Promise<void> {
  for (let time = 0; time < times; time++) await desk.answer(...ABC);
}

const now = () => ({ run: desk.round!.spec.task.run, round: 0, attempt: 0 });

describe("who may say what", () => {
  const asDevice: Record<string, (call: Call) => unknown> = {
    listen: (call) => desk.devices.listen(create(ListenRequestSchema), call),
    checkIn: (call) => desk.devices.checkIn(create(CheckInRequestSchema), call),
    fetch: (call) => desk.devices.fetch(create(FetchRequestSchema, { sha256: new Uint8Array(32) }), call),
    ready: (call) => desk.devices.ready(create(ReadyRequestSchema, now()), call),
    decline: (call) => desk.devices.decline(create(DeclineRequestSchema, now()), call),
    report: (call) => desk.devices.report(create(ReportRequestSchema, { activity: "training" }), call),
    advertise: (call) => desk.devices.advertise(create(AdvertiseRequestSchema), call),
    pick: (call) => desk.devices.pick(create(PickRequestSchema), call),
    share: (call) => desk.devices.share(create(ShareRequestSchema), call),
    upload: (call) => desk.devices.upload(stream([]), call),
    uploadStatus: (call) => desk.devices.uploadStatus(create(UploadStatusRequestSchema), call),
    attest: (call) => desk.devices.attest(create(AttestRequestSchema), call),
    reveal: (call) => desk.devices.reveal(create(RevealRequestSchema), call),
  };
  const asOwner: Record<string, (call: Call) => unknown> = {
    put: (call) => desk.owner.put((async function* () {})(), call),
    startRun: (call) => desk.owner.startRun(create(StartRunRequestSchema), call),
    status: (call) => desk.owner.status(create(RunRequestSchema, now()), call),
    watch: (call) => desk.owner.watch(create(RunRequestSchema, now()), call),
    stopRun: (call) => desk.owner.stopRun(create(RunRequestSchema, now()), call),
    resumeRun: (call) => desk.owner.resumeRun(create(RunRequestSchema, now()), call),
    listRuns: (call) => desk.owner.listRuns(create(RunRequestSchema) as never, call),
    releases: (call) => desk.owner.releases(create(ReleasesRequestSchema, { run: now().run }), call),
    history: (call) => desk.owner.history(create(HistoryRequestSchema, { run: now().run }), call),
    revoke: (call) => desk.owner.revoke(create(RevokeRequestSchema, { device: "a" }), call),
    fetch: (call) => desk.owner.fetch(create(FetchRequestSchema, { sha256: new Uint8Array(32) }), call),
  };

  test("every method has a line here", () => {
    expect(Object.keys({ ...asDevice, hello: 0, enroll: 0 }).sort()).toEqual(
      Object.keys(desk.devices).sort(),
    );
    expect(Object.keys(asOwner).sort()).toEqual(Object.keys(desk.owner).sort());
  });

  test("a device's methods: neither strangers nor owners", async () => {
    for (const [name, ask] of Object.entries(asDevice)) {
      expect(await refusal(() => ask(STRANGER)), `${name} by a stranger`).toBe("refused");
      expect(await refusal(() => ask(callOf("owner", "owner"))), `${name} by an owner`).toBe("refused");
    }
  });

  test("an owner's methods: neither strangers nor devices", async () => {
    for (const [name, ask] of Object.entries(asOwner)) {
      expect(await refusal(() => ask(STRANGER)), `${name} by a stranger`).toBe("refused");
      expect(await refusal(() => ask(callOf("a", "device"))), `${name} by a device`).toBe("refused");
    }
  });

  test("an enrolment without a certificate", async () => {
    expect(await refusal(() => desk.devices.enroll(create(EnrollRequestSchema), STRANGER))).toBe(
      "bad-message",
    );
  });
});

describe("a message about something else", () => {
  test("another run, round or attempt", async () => {
    for (const other of [{ run: "ff".repeat(32) }, { round: 1 }, { attempt: 1 }]) {
      const about = { ...now(), ...other };
      const call = callOf("a", "device");
      expect(await refusal(() => desk.devices.ready(create(ReadyRequestSchema, about), call))).toBe(
        "conflict",
      );
      expect(await refusal(() => desk.devices.decline(create(DeclineRequestSchema, about), call))).toBe(
        "conflict",
      );
    }
  });

  test("keys for another attempt", async () => {
    await go(1);
    const answer = await desk.answerOf("a");
    if (answer.event.case !== "advertised") throw new Error("not there");
    const terms = { ...termsOf(desk.round!.spec), attempt: 1 };
    const request = create(AdvertiseRequestSchema, { terms, advertisement: answer.event.value });
    expect(await refusal(() => desk.devices.advertise(request, callOf("a", "device")))).toBe("conflict");
    expect(await refusal(() => desk.send("z", answer))).toBe("refused");
    expect(await refusal(() => desk.send("b", answer))).toBe("refused");
  });

  test("another session, and a device that is in none", async () => {
    for (const [at, kind] of ["shared", "uploaded", "attested", "revealed"].entries()) {
      if (at === 0) await go(2);
      const answer = await desk.answerOf("a");
      expect(answer.event.case).toBe(kind);
      expect(["refused", "conflict"]).toContain(await refusal(() => desk.send("z", answer)));
      const session = new Uint8Array(32).fill(9);
      const value = typeof answer.event.value === "object" ? { ...answer.event.value, session } : true;
      const event = { ...answer.event, value } as typeof answer.event;
      const code = await refusal(() => desk.send("a", { ...answer, event, session }));
      expect(["refused", "conflict"], kind).toContain(code);
      await go(1);
    }
    expect(desk.driver?.header.state).toBe("running");
  });
});

describe("an upload", () => {
  const upload = (change: (shape: UploadShape) => Partial<UploadShape>) => async () => {
    const shape = uploadOf(await desk.answerOf("a"), 24);
    await desk.devices.upload(parts({ ...shape, ...change(shape) }), callOf("a", "device"));
  };

  test("of any other shape than the session's is not taken", async () => {
    await go(3);
    const shapes: Record<string, (shape: UploadShape) => Partial<UploadShape>> = {
      short: ({ bytes }) => ({ bytes: bytes.subarray(1), sha256: sha256(bytes.subarray(1)) }),
      long: ({ bytes }) => ({ bytes: new Uint8Array([...bytes, 0]) }),
      "announced short": ({ packedBytes }) => ({ packedBytes: packedBytes - 1 }),
      "announced long": ({ packedBytes }) => ({ packedBytes: packedBytes + 1 }),
      "another hash": () => ({ sha256: new Uint8Array(32) }),
      "no hash": () => ({ sha256: new Uint8Array() }),
      "no bytes": () => ({ bytes: new Uint8Array() }),
    };
    for (const [name, change] of Object.entries(shapes))
      expect(await refusal(upload(change)), name).toBe("bad-message");
    expect(await refusal(upload(() => ({ session: new Uint8Array(32) })))).toBe("conflict");
  });

  test("is a header, then chunks", async () => {
    await go(3);
    const { session, bytes, sha256: hash, packedBytes } = uploadOf(await desk.answerOf("a"), 24);
    const header = { case: "header", value: { session, packedBytes, sha256: hash } as never } as const;
    const chunk = { case: "chunk", value: bytes } as const;
    for (const wrong of [
      [],
      [header],
      [chunk],
      [chunk, header],
      [header, header, chunk],
      [header, chunk, chunk],
    ]) {
      const act = () => desk.devices.upload(stream(wrong), callOf("a", "device"));
      expect(await refusal(act)).toBe("bad-message");
    }
    await desk.devices.upload(stream([header, chunk]), callOf("a", "device"));
    await desk.answer("b", "c");
    await go(2);
    await desk.settle();
  });

  test("before there is a session, and after its stage was closed", async () => {
    expect(await refusal(() => desk.devices.upload(stream([]), callOf("a", "device")))).toBe("conflict");
    await go(3);
    const late = await desk.answerOf("a");
    await desk.answer("b", "c");
    const header = () => desk.driver!.header;
    while (header().attempt === 0) {
      desk.clock.next();
      await desk.settle();
    }
    expect(header().reason).toBe("round 0, attempt 1 of 3: 2 of at least 3 devices uploaded");
    const again = () => desk.devices.upload(parts(uploadOf(late, 24)), callOf("a", "device"));
    expect(await refusal(again)).toBe("conflict");
  });

  test("twice is counted once", async () => {
    await go(3);
    const late = await desk.answerOf("a");
    await desk.answer(...ABC);
    // The same vector again is a repeat, and another device's is refused.
    expect(await refusal(() => desk.send("a", late))).toBe("taken");
    expect(await refusal(() => desk.send("z", late))).toBe("refused");
  });
});

describe("what a device says of itself", () => {
  const NASTY = "on \u001b[2Jbattery\u009b1m\u202e\r\n";
  const NICE = "on \ufffd[2Jbattery\ufffd1m\ufffd\ufffd\ufffd";

  test("is kept in bounds, and without what a terminal would obey", async () => {
    const state = { charging: true, sdk: NASTY, engines: [NASTY] };
    await desk.devices.report(
      create(ReportRequestSchema, { run: NASTY, activity: NASTY.padEnd(200, "!"), state }),
      callOf("a", "device"),
    );
    expect(desk.coordinator.presence.activities.get("a")).toEqual({
      run: NICE,
      activity: NICE.padEnd(40, "!"),
      progress: 0,
    });
    await desk.sendEvent("a", { case: "declined", value: NASTY.padEnd(9_000, "!") });
    expect(desk.round?.declined.get("a")).toBe(NICE.padEnd(500, "!"));
    const activityOf = async (device: string) => {
      const status = await desk.owner.status(create(RunRequestSchema, now()), callOf("owner", "owner"));
      return status.devices.find((one) => one.device === device);
    };
    expect(await activityOf("a")).toMatchObject({ activity: "", declined: NICE.padEnd(500, "!") });
    expect(await activityOf("b")).toMatchObject({ declined: "" });
    // It takes part again, and says so.
    await desk.devices.report(create(ReportRequestSchema, { activity: "training" }), callOf("a", "device"));
    expect(await activityOf("a")).toMatchObject({ activity: "training", declined: "" });
  });
});
