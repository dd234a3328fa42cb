import type { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import { type UploadPart, UploadPartSchema, UploadStatusRequestSchema } from "@tutti/wire/secagg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  belowCrowdRate,
  CROWDED_BYTES_PER_S,
  CROWDED_MS,
  PartialUpload,
} from "../../src/handlers/partial-upload.ts";
import { KEEP_MS, Uploads } from "../../src/handlers/upload.ts";
import { type Spare, UploadRoom } from "../../src/handlers/upload-room.ts";
import { plan, TestClock, temporary } from "../drive/house.ts";
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
  const none: Spare = { devices: () => [], giveUp: () => {} };
  const asks = (room: UploadRoom, who: string, bytes: number): number | "taken" => {
    try {
      room.take(who, bytes, none);
      return "taken";
    } catch (fault) {
      return (fault as Fault).detail.retryAfterMs ?? -1;
    }
  };

  test("is given in the order in which it was asked for", () => {
    const room = new UploadRoom(100, clock);
    expect(asks(room, "a", 60)).toBe("taken");
    expect(asks(room, "big", 60)).toBe(500);
    // There is room for this one, but not before the one that waits.
    expect(asks(room, "small", 30)).toBe(500);
    room.free("a");
    expect(asks(room, "late", 60)).toBe(1000);
    expect(asks(room, "small", 30)).toBe("taken");
    expect(asks(room, "big", 60)).toBe("taken");
    expect(room.held).toBe(90);
  });

  test("is not kept for who does not come back", () => {
    const room = new UploadRoom(100, clock);
    asks(room, "a", 100);
    asks(room, "gone", 100);
    room.free("a");
    expect(asks(room, "b", 100)).toBe(1000);
    nowMs += 10_000;
    expect(asks(room, "b", 100)).toBe("taken");
  });

  test("is never more than there is, but for one upload that could not come otherwise", () => {
    const room = new UploadRoom(100, clock);
    expect(asks(room, "huge", 500)).toBe("taken");
    expect(asks(room, "a", 1)).not.toBe("taken");
    room.free("huge");
    room.free("huge");
    expect(room.held).toBe(0);
  });

  test("comes from uploads that were cut, when there is no other", () => {
    const room = new UploadRoom(100, clock);
    const kept = ["x", "y", "z"];
    for (const who of kept) room.take(who, 30, none);
    const spare = {
      devices: () => [...kept],
      giveUp: (device: string) => {
        kept.splice(kept.indexOf(device), 1);
        room.free(device);
      },
    };
    room.take("new", 50, spare);
    expect(kept).toEqual(["z"]);
    expect(room.held).toBe(80);
    // All that is spare would not be enough: nothing is given up for it.
    expect(() => room.take("newer", 60, spare)).toThrow("fewer uploads at once");
    expect(kept).toEqual(["z"]);
    // Who comes after it, neither: the room would be for the one before.
    expect(() => room.take("newest", 20, spare)).toThrow("fewer uploads at once");
    expect(kept).toEqual(["z"]);
  });

  test("has no line of those who came in: who comes next finds what is left", () => {
    const room = new UploadRoom(100, clock);
    expect(asks(room, "a", 100)).toBe("taken");
    expect(asks(room, "b", 60)).toBe(500);
    room.free("a");
    expect(asks(room, "b", 60)).toBe("taken");
    expect(asks(room, "c", 40)).toBe("taken");
  });

  test("comes from the slowest that is read, once it had its time", () => {
    const announced = { session: new Uint8Array(32), sha256: new Uint8Array(32) };
    const all = Object.entries({ fast: 10, slow: 1, slower: 0.5, whole: 0.1 }).map(([who, ofCrowd]) => {
      const came = (ofCrowd * CROWDED_BYTES_PER_S * CROWDED_MS) / 1000;
      const partial = new PartialUpload(announced, came + (who === "whole" ? 0 : 1), 7);
      partial.add(new Uint8Array(came));
      return [who, partial] as [string, PartialUpload];
    });
    const slow = (afterMs: number) => belowCrowdRate(all, 7 + afterMs).map(([who]) => who);
    expect(slow(CROWDED_MS - 1)).toEqual([]);
    // At the rate is not below it.
    expect(slow(CROWDED_MS)).toEqual(["slower"]);
    expect(slow(CROWDED_MS + 1)).toEqual(["slower", "slow"]);
    // Who was cut is not read, and how long it was away does not count when it goes on.
    const slower = all[2]![1];
    slower.expiry = new AbortController();
    slower.pause(7 + CROWDED_MS - 1);
    expect(slow(5 * CROWDED_MS)).toEqual(["slow"]);
    slower.expiry = null;
    slower.goOn(7 + 5 * CROWDED_MS);
    expect(slow(5 * CROWDED_MS)).toEqual(["slow"]);
    expect(slow(5 * CROWDED_MS + 1)).toEqual(["slow", "slower"]);
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
    // Of two that are slow each would drive out the other for ever: who made room once waits.
    const third = read("c", trickle(await vectorOf("c")));
    await desk.settle();
    desk.clock.pass(CROWDED_MS);
    expect(await read("a", trickle(slow))).toMatchObject({ detail: { expected: "fewer uploads at once" } });
    expect(uploads.held).toBe(slow.packedBytes);
    void third;
  });
});

describe("docs/protocol.md, Upload: one device, several connections", () => {
  /** A connection whose parts the test sends; what was read of it, and how it ended. */
  function connect(uploads: Uploads, { device = "a", submit = async () => {} } = {}) {
    const waiting: ((part: IteratorResult<UploadPart>) => void)[] = [];
    const come: IteratorResult<UploadPart>[] = [];
    const parts: AsyncIterable<UploadPart> = {
      [Symbol.asyncIterator]: () => ({
        next: () =>
          new Promise((resolve) => {
            const part = come.shift();
            if (part) resolve(part);
            else waiting.push(resolve);
          }),
      }),
    };
    const put = (result: IteratorResult<UploadPart>) => {
      const reader = waiting.shift();
      if (reader) reader(result);
      else come.push(result);
    };
    const now = () => desk.driver!.round;
    const ended = outcome(uploads.read(now, { device, parts }, submit));
    return {
      ended,
      send: (part: UploadPart["part"]) => put({ done: false, value: create(UploadPartSchema, { part }) }),
      end: () => put({ done: true, value: undefined }),
    };
  }
  const headerOf = ({ bytes: _, ...rest }: Vector, offset = 0) =>
    ({ case: "header", value: { ...rest, offset } as never }) as const;
  const chunkOf = ({ bytes }: Vector, from: number, to?: number) =>
    ({ case: "chunk", value: bytes.subarray(from, to) }) as const;
  let uploads: Uploads;
  beforeEach(async () => {
    uploads = new Uploads(desk.clock, (await vectorOf("a")).packedBytes);
  });

  test("what comes over the old one with the new one's first word is not read", async () => {
    const vector = await vectorOf("a");
    const old = connect(uploads);
    old.send(headerOf(vector));
    old.send(chunkOf(vector, 0, 14));
    await desk.settle();
    old.send(chunkOf(vector, 14, 30));
    const fresh = connect(uploads);
    fresh.send(headerOf(vector, 14));
    fresh.send(chunkOf(vector, 14));
    fresh.end();
    expect(await fresh.ended).toBe("taken");
    expect(await old.ended).toMatchObject({ code: "cancelled" });
  });

  test("the old one's end gives nothing up that the new one reads", async () => {
    const vector = await vectorOf("a");
    const old = connect(uploads);
    old.send(headerOf(vector));
    old.send(chunkOf(vector, 0, 14));
    await desk.settle();
    const fresh = connect(uploads);
    fresh.send(headerOf(vector, 14));
    await old.ended;
    await desk.settle();
    // Nothing is kept that could be spared for another.
    const other = await vectorOf("b");
    const late = connect(uploads, { device: "b" });
    late.send(headerOf(other));
    expect(await late.ended).toMatchObject({
      code: "unavailable",
      detail: { expected: "fewer uploads at once" },
    });
    fresh.send(chunkOf(vector, 14));
    fresh.end();
    expect(await fresh.ended).toBe("taken");
  });

  test("what came is kept until it is durable: who loses its line now hears that all came", async () => {
    const vector = await vectorOf("a");
    let durable = () => {};
    const submit = () => new Promise<void>((resolve) => (durable = resolve));
    const line = connect(uploads, { submit });
    line.send(headerOf(vector));
    line.send(chunkOf(vector, 0));
    line.end();
    await desk.settle();
    const request = create(UploadStatusRequestSchema, vector);
    expect(uploads.status(desk.driver!.round, "a", request)).toBe(vector.bytes.length);
    expect(uploads.held).toBe(vector.packedBytes);
    durable();
    expect(await line.ended).toBe("taken");
    expect(uploads.held).toBe(0);
  });

  test("what was cut is kept for so long, and no longer", async () => {
    const clock = new TestClock();
    const short = new Uploads(clock, 1 << 20);
    const vector = await vectorOf("a");
    const about = { device: "a", parts: pieces(vector, 0, 14) };
    await outcome(
      short.read(
        () => desk.driver!.round,
        about,
        async () => {},
      ),
    );
    expect(short.held).toBe(vector.packedBytes);
    expect([clock.next(), clock.nowMs()]).toEqual([true, KEEP_MS]);
    await desk.settle();
    expect(short.held).toBe(0);
  });

  test("chunks that are too small and too many are refused before all of them came", async () => {
    const vector = await vectorOf("a");
    const line = connect(uploads);
    line.send(headerOf(vector));
    for (let at = 0; at < vector.bytes.length - 1; at++) line.send(chunkOf(vector, at, at + 1));
    expect(await line.ended).toMatchObject({ code: "bad-message", detail: { got: "smaller ones" } });
  });
});

/** All but the last byte; then nothing more, and the line stays. */
async function* trickle(vector: Vector): AsyncGenerator<UploadPart> {
  const parts = pieces(vector, 0, vector.bytes.length);
  for (let came = 0; came < vector.bytes.length - 7; came += 7) yield (await parts.next()).value;
  await new Promise(() => {});
}
