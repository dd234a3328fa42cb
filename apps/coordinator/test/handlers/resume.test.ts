import type { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import { type UploadPart, UploadPartSchema, UploadStatusRequestSchema } from "@tutti/wire/secagg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Budget } from "../../src/handlers/budget.ts";
import { CROWDED_BYTES_PER_S, CROWDED_MS, Partial, slowestOf } from "../../src/handlers/partial.ts";
import { KEEP_MS, Uploads } from "../../src/handlers/upload.ts";
import { plan, temporary } from "../drive/house.ts";
import { callOf, Desk, uploadOf } from "./desk.ts";

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

const vectorOf = async (who: string) => uploadOf(await desk.answerOf(who), 24);
type Vector = Awaited<ReturnType<typeof vectorOf>>;

/** The parts of an upload from `offset` to `end`; then, where that is not the last byte, the line is cut. */
async function* pieces({ bytes, ...rest }: Vector, offset: number, end: number): AsyncGenerator<UploadPart> {
  const header = { ...rest, offset };
  yield create(UploadPartSchema, { part: { case: "header", value: header } });
  for (let at = offset; at < end; at += 7)
    yield create(UploadPartSchema, {
      part: { case: "chunk", value: bytes.subarray(at, Math.min(at + 7, end)) },
    });
  if (end < bytes.length) throw new Error("the line was cut");
}

const outcome = (done: Promise<unknown>): Promise<string | Fault> =>
  done.then(
    () => "taken",
    (fault) => fault,
  );
const send = (vector: Vector, from: number, end = vector.bytes.length) =>
  outcome(desk.devices.upload(pieces(vector, from, end), callOf("a", "device")));
const held = async (vector: Vector) => {
  const request = create(UploadStatusRequestSchema, vector);
  return (await desk.devices.uploadStatus(request, callOf("a", "device"))).heldBytes;
};

describe("docs/protocol.md, Upload: an upload that was cut", () => {
  test("goes on behind what came, as often as it takes; then it counts once", async () => {
    const vector = await vectorOf("a");
    const ends = [10, 10, 31, 45, vector.bytes.length - 1];
    for (const end of ends) {
      await send(vector, await held(vector), end);
      expect(await held(vector)).toBe(end);
    }
    expect(await send(vector, ends.at(-1)!)).toBe("taken");
    // Whose vector is in the sum need send nothing more, and may say so again.
    const before = await desk.state();
    expect(await held(vector)).toBe(vector.bytes.length);
    expect(await send(vector, vector.bytes.length)).toBe("taken");
    expect(await send(vector, 0)).toBe("taken");
    expect(await desk.state()).toEqual(before);
  });

  test("may send again what came already; it is not written twice", async () => {
    const vector = await vectorOf("a");
    await send(vector, 0, 40);
    expect(await send(vector, 9)).toBe("taken");
  });

  test("cannot go on from further than it came", async () => {
    const vector = await vectorOf("a");
    await send(vector, 0, 14);
    const fault = await send(vector, 15);
    expect(fault).toMatchObject({
      code: "unavailable",
      detail: { expected: "to go on from byte 14", got: "15" },
    });
    expect(await held(vector)).toBe(14);
  });

  test("begins anew with another hash, and nothing is left of what came under the old one", async () => {
    const vector = await vectorOf("a");
    await send({ ...vector, sha256: new Uint8Array(32) }, 0, 40);
    expect(await held(vector)).toBe(0);
    expect(await send(vector, 0)).toBe("taken");
  });

  test("counts only when the whole has the announced hash, however it came", async () => {
    const vector = await vectorOf("a");
    const other = { ...vector, bytes: vector.bytes.map((byte, at) => (at === 3 ? byte ^ 1 : byte)) };
    await send(other, 0, 40);
    expect(await send(vector, 40)).toMatchObject({ code: "bad-message" });
    expect(await held(vector)).toBe(0);
    expect(await send(vector, 0)).toBe("taken");
  });

  test("is kept for a while, and of its own device and session", async () => {
    const vector = await vectorOf("a");
    await send(vector, 0, 40);
    const request = create(UploadStatusRequestSchema, vector);
    const other = await desk.devices.uploadStatus(request, callOf("b", "device"));
    expect(other.heldBytes).toBe(0);
    const elsewhere = create(UploadStatusRequestSchema, { ...vector, session: new Uint8Array(32) });
    await expect(desk.devices.uploadStatus(elsewhere, callOf("a", "device"))).rejects.toMatchObject({
      code: "conflict",
    });
    const start = desk.clock.nowMs();
    await desk.settle();
    while (desk.clock.nowMs() - start < KEEP_MS && desk.clock.next()) await desk.settle();
    // The session may be over by then; where it is not, nothing is held.
    expect(await held(vector).catch((fault: Fault) => fault.code)).toSatisfy(
      (answer) => answer === 0 || answer === "conflict",
    );
  });
});

describe("docs/reliability.md, Connections: room for uploads", () => {
  const clock = { nowMs: () => nowMs };
  let nowMs = 0;
  const none = () => false;
  const asks = (budget: Budget, who: string, bytes: number): number | "taken" => {
    try {
      budget.take(who, bytes, none);
      return "taken";
    } catch (fault) {
      return (fault as Fault).detail.retryAfterMs ?? -1;
    }
  };

  test("is given in the order in which it was asked for", () => {
    const budget = new Budget(100, clock);
    expect(asks(budget, "a", 60)).toBe("taken");
    expect(asks(budget, "big", 60)).toBe(500);
    // There is room for this one, but not before the one that waits.
    expect(asks(budget, "small", 30)).toBe(500);
    budget.free("a");
    expect(asks(budget, "late", 60)).toBe(1000);
    expect(asks(budget, "small", 30)).toBe("taken");
    expect(asks(budget, "big", 60)).toBe("taken");
    expect(budget.held).toBe(90);
  });

  test("is not kept for who does not come back", () => {
    const budget = new Budget(100, clock);
    asks(budget, "a", 100);
    asks(budget, "gone", 100);
    budget.free("a");
    expect(asks(budget, "b", 100)).toBe(1000);
    nowMs += 10_000;
    expect(asks(budget, "b", 100)).toBe("taken");
  });

  test("is never more than there is, but for one upload that could not come otherwise", () => {
    const budget = new Budget(100, clock);
    expect(asks(budget, "huge", 500)).toBe("taken");
    expect(asks(budget, "a", 1)).not.toBe("taken");
    budget.free("huge");
    budget.free("huge");
    expect(budget.held).toBe(0);
  });

  test("comes from uploads that were cut, when there is no other", () => {
    const budget = new Budget(100, clock);
    const kept = ["x", "y", "z"];
    for (const who of kept) budget.take(who, 30, none);
    budget.take("new", 50, () => {
      const [oldest] = kept.splice(0, 1);
      if (oldest) budget.free(oldest);
      return oldest !== undefined;
    });
    expect(kept).toEqual(["z"]);
    expect(budget.held).toBe(80);
  });

  test("comes from the slowest that is read, once it had its time", () => {
    const announced = { session: new Uint8Array(32), sha256: new Uint8Array(32) };
    const all = Object.entries({ fast: 10, slow: 1, slower: 0.5, whole: 0.1 }).map(([who, ofCrowd]) => {
      const came = (ofCrowd * CROWDED_BYTES_PER_S * CROWDED_MS) / 1000;
      const partial = new Partial(announced, came + (who === "whole" ? 0 : 1), 7);
      partial.add(new Uint8Array(came));
      return [who, partial] as [string, Partial];
    });
    const slowest = (afterMs: number) => slowestOf(all, 7 + afterMs)?.[0];
    expect(slowest(CROWDED_MS - 1)).toBe(undefined);
    expect(slowest(CROWDED_MS)).toBe("slower");
    all.splice(2, 1);
    // At the rate, and not below it.
    expect(slowest(CROWDED_MS)).toBe(undefined);
    expect(slowest(CROWDED_MS + 1)).toBe("slow");
    all.splice(1, 1);
    expect(slowest(5 * CROWDED_MS)).toBe(undefined);
  });

  test("is not held by one that trickles: who waits comes in, and it is told when to come", async () => {
    const [slow, other] = [await vectorOf("a"), await vectorOf("b")];
    const uploads = new Uploads(desk.clock, slow.packedBytes);
    const read = (device: string, parts: AsyncIterable<UploadPart>) =>
      outcome(
        uploads.read(
          () => desk.driver!.round,
          { device, parts },
          async () => {},
        ),
      );
    const trickling = read("a", trickle(slow));
    await desk.settle();
    expect(await read("b", pieces(other, 0, other.bytes.length))).toMatchObject({ code: "unavailable" });
    desk.clock.pass(CROWDED_MS);
    expect(await read("b", pieces(other, 0, other.bytes.length))).toBe("taken");
    expect(await trickling).toMatchObject({ code: "unavailable", detail: { retryAfterMs: CROWDED_MS } });
    expect(uploads.held).toBe(0);
  });
});

/** All but the last byte; then nothing more, and the line stays. */
async function* trickle(vector: Vector): AsyncGenerator<UploadPart> {
  const parts = pieces(vector, 0, vector.bytes.length);
  for (let came = 0; came < vector.bytes.length - 7; came += 7) yield (await parts.next()).value;
  await new Promise(() => {});
}
