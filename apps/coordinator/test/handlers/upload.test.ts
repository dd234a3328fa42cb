import type { Fault } from "@tutti/foundation/fault";
import { stageOf } from "@tutti/round/summing";
import { create } from "@tutti/wire/message";
import { type UploadPart, UploadPartSchema } from "@tutti/wire/secagg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Uploads } from "../../src/handlers/upload.ts";
import { plan, temporary } from "../drive/house.ts";
import { callOf, Desk, parts, uploadOf } from "./desk.ts";

const ABC = ["a", "b", "c"];
let place: ReturnType<typeof temporary>;
let desk: Desk;

/** Devices that are asked for their vectors. */
async function begin(change: Parameters<typeof plan>[0], devices: readonly string[]): Promise<void> {
  place = temporary();
  desk = await Desk.open(place.folder);
  await desk.startRun(plan(change));
  await desk.gather(...devices);
  for (let time = 0; time < 3; time++) await desk.answer(...devices);
}

/** The same with another plan. */
async function again(change: Parameters<typeof plan>[0], devices: readonly string[]): Promise<void> {
  await desk.close();
  place.remove();
  await begin(change, devices);
}

beforeEach(() => begin({}, ABC));
afterEach(async () => {
  await desk.close();
  place.remove();
});

const header = async () => {
  const { session, packedBytes, sha256, bytes } = uploadOf(await desk.answerOf("a"), 24);
  return { part: { case: "header", value: { session, packedBytes, sha256 } as never } as const, bytes };
};

/** A sender that counts what is read of it: its parts, then `more` for ever or, without, silence. */
async function* sender(
  all: readonly UploadPart["part"][],
  { read, more }: { read: { count: number }; more?: UploadPart["part"] },
): AsyncGenerator<UploadPart> {
  for (const part of all) {
    read.count++;
    yield create(UploadPartSchema, { part });
  }
  while (more) {
    if (++read.count > 1000) throw new Error("read without end");
    yield create(UploadPartSchema, { part: more });
  }
  await new Promise(() => {});
}

const outcome = (done: Promise<unknown>) =>
  done.then(
    () => "taken",
    (fault: Fault) => fault.code,
  );
const send = (who: string, from: AsyncIterable<UploadPart>) =>
  outcome(desk.devices.upload(from, callOf(who, "device")));

test("an empty chunk ends the upload, wherever it comes", async () => {
  const { part, bytes } = await header();
  const empty = { case: "chunk", value: new Uint8Array() } as const;
  for (const before of [[part], [part, { case: "chunk", value: bytes } as const]]) {
    const read = { count: 0 };
    expect(await send("a", sender(before, { read, more: empty }))).toBe("bad-message");
    expect(read.count).toBe(before.length + 1);
  }
});

test("who is in no cohort is answered unread, and whose vector is in from the header alone", async () => {
  const { part, bytes } = await header();
  const chunk = { case: "chunk", value: bytes.subarray(0, 1) } as const;
  const read = { count: 0 };
  expect(await send("z", sender([part], { read, more: chunk }))).toBe("refused");
  expect(read.count).toBe(0);
  await desk.send("a", await desk.answerOf("a"));
  expect(await send("a", sender([part], { read, more: chunk }))).toBe("taken");
  expect(read.count).toBe(1);
});

test("a device has one upload under way: the newer one", async () => {
  const { part } = await header();
  const hung = send("a", sender([part], { read: { count: 0 } }));
  await desk.settle();
  const whole = parts(uploadOf(await desk.answerOf("a"), 24));
  expect(await send("a", whole)).toBe("taken");
  expect(await hung).toBe("cancelled");
});

describe("docs/reliability.md, Connections: an upload whose sum takes none any more", () => {
  const wait = async (done: () => boolean) => {
    for (let at = 0; !done() && at < 200 && desk.clock.next(); at++) await desk.settle();
    expect(done()).toBe(true);
  };
  const endStage = async () => {
    for (const who of ["a", "b", "d"]) await desk.send(who, await desk.answerOf(who));
    await wait(() => stageOf(desk.round!.cohorts[0]!.sum) === "attesting");
  };

  test.each([
    ["its stage", endStage],
    ["its round", () => wait(() => desk.round?.spec.attempt === 1)],
    ["its run", () => desk.driver!.stop()],
  ])("is given up with %s, and its room is free", async (_name, end) => {
    await again({ cohort: { min: 3, max: 4 } }, [...ABC, "d"]);
    const { session, packedBytes, sha256, bytes } = uploadOf(await desk.answerOf("c"), 24);
    const uploads = new Uploads(desk.clock, packedBytes);
    const { driver } = desk;
    const part = { case: "header", value: { session, packedBytes, sha256 } as never } as const;
    const chunk = { case: "chunk", value: bytes.subarray(0, 1) } as const;
    const off = desk.coordinator.watch(() => uploads.look());
    const hung = sender([part, chunk], { read: { count: 0 } });
    let ended = "";
    void outcome(
      uploads.read(
        () => driver!.round,
        { device: "c", parts: hung },
        async () => {},
      ),
    ).then((code) => {
      ended = code;
    });
    await desk.settle();
    expect([ended, uploads.held]).toEqual(["", packedBytes]);
    await end();
    await desk.settle();
    expect([ended, uploads.held]).toEqual(["conflict", 0]);
    off();
  });

  test("is given up with the next part that comes, though nobody looked", async () => {
    const { session, packedBytes, sha256, bytes } = uploadOf(await desk.answerOf("c"), 24);
    const uploads = new Uploads(desk.clock, packedBytes);
    let round = desk.round;
    const read = { count: 0 };
    async function* parts(): AsyncGenerator<UploadPart> {
      const part = { case: "header", value: { session, packedBytes, sha256 } as never } as const;
      yield create(UploadPartSchema, { part });
      round = null;
      yield* sender([], { read, more: { case: "chunk", value: bytes.subarray(0, 1) } });
    }
    const reading = uploads.read(
      () => round,
      { device: "c", parts: parts() },
      async () => {},
    );
    expect(await outcome(reading)).toBe("conflict");
    expect([read.count, uploads.held]).toEqual([1, 0]);
  });
});

test("an upload that says nothing more is given up by the stall rule", async () => {
  await again({ deadlines: { stageMs: 600_000 } }, ABC);
  const { part, bytes } = await header();
  const start = desk.clock.nowMs();
  let ended = "";
  void send("a", sender([part], { read: { count: 0 } })).then((code) => {
    ended = code;
  });
  await desk.settle();
  while (ended === "" && desk.clock.next()) await desk.settle();
  expect(ended).toBe("deadline");
  expect(desk.clock.nowMs() - start).toBeLessThan(16_000 + bytes.length);
});
