import type { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import { type UploadPart, UploadPartSchema } from "@tutti/wire/secagg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { plan, temporary } from "../drive/house.ts";
import { callOf, Desk, parts, uploadOf } from "./desk.ts";

const ABC = ["a", "b", "c"];
let place: ReturnType<typeof temporary>;
let desk: Desk;

beforeEach(async () => {
  place = temporary();
  desk = await Desk.open(place.folder);
  await desk.startRun(plan());
  await desk.gather(...ABC);
  for (let time = 0; time < 3; time++) await desk.answer(...ABC);
});
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

test("an upload that says nothing more is given up by the stall rule", async () => {
  const { part, bytes } = await header();
  const start = desk.clock.nowMs();
  // The stage's own deadline may pass before: the upload is still read then, as from a device on a slow line.
  let ended = "";
  void send("a", sender([part], { read: { count: 0 } })).then((code) => {
    ended = code;
  });
  await desk.settle();
  while (ended === "" && desk.clock.next()) await desk.settle();
  expect(ended).toBe("deadline");
  expect(desk.clock.nowMs() - start).toBeLessThan(16_000 + bytes.length);
});
