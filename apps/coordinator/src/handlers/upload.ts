import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { packedBytes, unpackBits } from "@tutti/kernels/pack";
import { cohortOf, type Round } from "@tutti/round/round";
import { termsOf } from "@tutti/round/spec";
import { sessionId, stageOf, take } from "@tutti/round/summing";
import type { UploadHeader, UploadPart, UploadStatusRequest } from "@tutti/wire/secagg";
import type { Upload } from "../drive/waiting.ts";
import { MIN_BYTES_PER_S, STALL_MS } from "../grpc/stall.ts";
import { belowCrowdRate, CROWDED_BYTES_PER_S, CROWDED_MS, PartialUpload } from "./partial-upload.ts";
import { type Spare, UploadRoom } from "./upload-room.ts";

type Part = UploadPart["part"];
/** An upload that is being read, and why it should be no longer, if it should not. */
type Reading = { readonly stop: AbortController; readonly over: () => Fault | null };
type Session = { readonly sid: Uint8Array; readonly bits: number; readonly length: number };

/** What a device sent before its connection was cut is kept for so long. */
export const KEEP_MS = 120_000;
/** Every part costs something, however small it is: an upload has as many as such chunks need, and a few. */
const LEAST_CHUNK_BYTES = 1024;
const FEW_PARTS = 16;

/**
 * The uploads that are being read, or were when their connection was cut: one of each device, in one buffer
 * of the announced size, within one room. A device that comes again has lost the line of its earlier one,
 * which is given up, and goes on behind what came of it.
 */
export class Uploads {
  readonly #clock: Clock;
  readonly #room: UploadRoom;
  readonly #reading = new Map<string, Reading>();
  /** In which session each device last made room for being slow. */
  readonly #madeRoom = new Map<string, Uint8Array>();
  /** Those that are kept alone are in the order in which they were cut. */
  readonly #partials = new Map<string, PartialUpload>();

  constructor(clock: Clock, roomBytes: number) {
    this.#clock = clock;
    this.#room = new UploadRoom(roomBytes, clock);
  }

  /** Bytes held for uploads now. */
  get held(): number {
    return this.#room.held;
  }

  /** After every committed change: an upload whose sum takes none any more makes room for those of others. */
  look(): void {
    for (const { stop, over } of this.#reading.values()) {
      const fault = over();
      if (fault) stop.abort(fault);
    }
  }

  /** How many bytes of an upload need not be sent again. @throws Fault as `read`. */
  status(round: Round | null, device: string, request: UploadStatusRequest): number {
    const { sum, session } = placeOf(round, device);
    mustBeIts(request, session);
    if (isIn(sum, device)) return packedBytes(session.bits, session.length);
    const partial = this.#partials.get(device);
    return partial?.isOf(request) ? partial.received : 0;
  }

  /**
   * Hands on the masked vector of an upload: exactly the session's words, its hash as announced, else
   * nothing is taken. Does nothing, all unread, for a device whose vector is in the sum already.
   * @throws Fault("conflict" or "refused") from the header alone for a session or a device that takes no
   * upload; Fault("unavailable") where there is no room now, or it goes on behind what came;
   * Fault("conflict") as soon as its stage or its round is over; Fault("deadline") below the stall rule; what
   * `submit` throws.
   */
  async read(
    now: () => Round | null,
    { device, parts }: { device: string; parts: AsyncIterable<UploadPart> },
    submit: (upload: Upload) => Promise<void>,
  ): Promise<void> {
    const round = now();
    const { sum, session, dropped } = placeOf(round, device);
    const bytes = packedBytes(session.bits, session.length);
    const reading = { stop: new AbortController(), over: () => endOf(round, now(), device) };
    const { stop } = reading;
    this.#begin(device, bytes, reading);
    const next = reader(parts, reading);
    try {
      const header = headerOf(await next(), session);
      // The machine's own answer to an upload now: what it would refuse is not read, nor is a repeat.
      if (isIn(sum, device)) return this.#drop(device);
      if (dropped) throw new Fault("conflict", "upload", { expected: "a cohort in progress", got: dropped });
      const partial = this.#resume(device, header, bytes);
      partial.reader = stop;
      await this.#fill(device, partial, { next, skip: partial.received - header.offset });
      const vector = unpackBits(partial.packed, session.bits, session.length);
      // Kept until it is durable: whoever loses its line now is told that all came.
      await submit({ vector, session: session.sid }).finally(() => this.#drop(device, partial));
    } finally {
      stop.abort();
      if (this.#reading.get(device) === reading) this.#reading.delete(device);
    }
  }

  /** Reading may begin; an earlier upload of the device is given up, and one that is too slow is. */
  #begin(device: string, bytes: number, reading: Reading): void {
    const { stop } = reading;
    const another = new Fault("cancelled", "upload", { got: "another of the same device" });
    this.#reading.get(device)?.stop.abort(another);
    this.#reading.set(device, reading);
    this.#clock.sleep(STALL_MS + (bytes / MIN_BYTES_PER_S) * 1000, stop.signal).then(
      () => stop.abort(tooSlow()),
      () => {},
    );
  }

  /** What came before of the announced upload; else a new buffer, if there is room for one. */
  #resume(device: string, header: UploadHeader, bytes: number): PartialUpload {
    const before = this.#partials.get(device);
    const ours = before?.isOf(header) ? before : undefined;
    const held = ours?.received ?? 0;
    if (header.offset > held)
      throw new Fault("unavailable", "upload", {
        expected: `to go on from byte ${held}`,
        got: `${header.offset}`,
        todo: "Ask UploadStatus",
      });
    if (ours) {
      if (ours.expiry) ours.goOn(this.#clock.nowMs());
      ours.expiry?.abort();
      ours.expiry = null;
      return ours;
    }
    this.#drop(device);
    this.#room.take(device, bytes, this.#spareFor(device, header.session));
    const partial = new PartialUpload(header, bytes, this.#clock.nowMs());
    this.#partials.set(device, partial);
    return partial;
  }

  /** Reads what is missing. What came over a line that was cut is kept; not of a sum that is over. */
  async #fill(device: string, partial: PartialUpload, rest: Rest): Promise<void> {
    const { reader } = partial;
    try {
      await fill(partial, rest);
    } catch (error) {
      const { code } = asFault(error);
      const broken = code === "bad-message" || code === "conflict" || partial.received === 0;
      // Another connection of the device may have taken it over.
      if (partial.reader === reader)
        if (broken) this.#drop(device, partial);
        else this.#keep(device, partial);
      throw error;
    }
  }

  /** Keeps what came for a while; nobody sends more of it now. */
  #keep(device: string, partial: PartialUpload): void {
    if (this.#partials.get(device) !== partial) return;
    const expiry = new AbortController();
    partial.expiry = expiry;
    partial.pause(this.#clock.nowMs());
    this.#partials.delete(device);
    this.#partials.set(device, partial);
    this.#clock.sleep(KEEP_MS, expiry.signal).then(
      () => this.#drop(device, partial),
      () => {},
    );
  }

  #drop(device: string, partial = this.#partials.get(device)): void {
    if (!partial || this.#partials.get(device) !== partial) return;
    partial.expiry?.abort();
    this.#partials.delete(device);
    this.#room.free(device);
  }

  /**
   * What was kept for the longest time, then the slowest that is read. Who made room itself for being slow
   * asks for none of that in the same session: slow ones would drive each other out, and none would end.
   */
  #spareFor(device: string, session: Uint8Array): Spare {
    const before = this.#madeRoom.get(device);
    const mayDisplace = !before || !equalBytes(before, session);
    const devices = () => {
      const all = [...this.#partials];
      const kept = all.filter(([, partial]) => partial.expiry);
      const slow = mayDisplace ? belowCrowdRate(all, this.#clock.nowMs()) : [];
      return [...kept, ...slow].map(([other]) => other);
    };
    return { devices, giveUp: (other) => this.#giveUp(other) };
  }

  #giveUp(device: string): void {
    const partial = this.#partials.get(device);
    if (partial && !partial.expiry) {
      this.#madeRoom.set(device, partial.session);
      partial.reader?.abort(tooSlowForMany());
    }
    this.#drop(device);
  }
}

function placeOf(round: Round | null, device: string) {
  const at = round && cohortOf(round, device);
  if (!round || at === null)
    throw new Fault("conflict", "upload", { expected: "a session that takes uploads", got: "none" });
  const { sum, dropped } = round.cohorts[at]!;
  const { bits, length } = termsOf(round.spec);
  return { sum, dropped, session: { sid: sessionId(sum), bits, length } };
}

/** Whether the device's vector is in the sum. @throws what the machine says of an upload now. */
function isIn(sum: Round["cohorts"][number]["sum"], device: string): boolean {
  return take(sum, device, { case: "uploaded", value: true }) === sum;
}

/**
 * Why an upload that began in one state of a round is not to go on in the present one: nothing that comes of
 * it could be taken. Null where it is.
 */
function endOf(began: Round | null, round: Round | null, device: string): Fault | null {
  const nameOf = (one: Round | null) => one && `${one.spec.task.round} ${one.spec.attempt}`;
  if (!round || nameOf(began) !== nameOf(round)) return over("a round that is over");
  try {
    const cohort = round.cohorts[cohortOf(round, device) ?? -1];
    if (!cohort) return over("a round without one");
    const { sum, dropped } = cohort;
    if (!dropped && stageOf(sum) === "masking") return null;
    // Whose vector is in is told so, whenever it asks.
    return isIn(sum, device) ? null : over(dropped ?? "a stage that is over");
  } catch (error) {
    return asFault(error);
  }
}

/** Reads one part at a time, undefined after the last, until there is a reason not to. */
function reader(parts: AsyncIterable<UploadPart>, { stop, over }: Reading): () => Promise<Part | undefined> {
  const { signal } = stop;
  const iterator = parts[Symbol.asyncIterator]();
  // One that is replaced with each part: what hung on one promise for all of them would stay until the last.
  let giveUp: (reason: unknown) => void = () => {};
  signal.addEventListener("abort", () => giveUp(signal.reason), { once: true });
  return async () => {
    signal.throwIfAborted();
    const { done, value } = await new Promise<IteratorResult<UploadPart>>((resolve, reject) => {
      giveUp = reject;
      iterator.next().then(resolve, reject);
    });
    // A part that came as this was given up: another connection reads on.
    signal.throwIfAborted();
    const fault = over();
    if (fault) throw fault;
    return done ? undefined : value.part;
  };
}

function headerOf(part: Part | undefined, session: Session): UploadHeader {
  if (part?.case !== "header") throw bad("a header, then chunks", part?.case ?? "nothing");
  const { value: header } = part;
  mustBeIts(header, session);
  const bytes = packedBytes(session.bits, session.length);
  demand(header.packedBytes === bytes, () => bad(`${bytes} bytes`, `${header.packedBytes}`));
  return header;
}

function mustBeIts(header: { readonly session: Uint8Array }, { sid }: Session): void {
  if (!equalBytes(header.session, sid))
    throw new Fault("conflict", "upload", { expected: "the session in progress", got: "another" });
}

type Rest = { readonly next: () => Promise<Part | undefined>; readonly skip: number };

/**
 * The chunks in their place, but for `skip` bytes that came before; at most one part is read beyond the last
 * byte, and none is empty.
 */
async function fill(partial: PartialUpload, { next, skip }: Rest): Promise<void> {
  const { packed } = partial;
  let ahead = skip;
  let few = FEW_PARTS + Math.ceil(packed.length / LEAST_CHUNK_BYTES);
  for (let part = await next(); part !== undefined; part = await next()) {
    demand(few-- > 0, () => bad(`chunks of at least ${LEAST_CHUNK_BYTES} bytes`, "smaller ones"));
    if (part.case !== "chunk") throw bad("a header, then chunks", part.case ?? "nothing");
    const { value: chunk } = part;
    demand(chunk.length > 0, () => bad("chunks that hold something", "an empty one"));
    const fresh = chunk.subarray(Math.min(ahead, chunk.length));
    ahead -= chunk.length - fresh.length;
    demand(partial.received + fresh.length <= packed.length, () => bad(`${packed.length} bytes`, "more"));
    if (fresh.length > 0) partial.add(fresh);
  }
  const { received } = partial;
  demand(received === packed.length, () => bad(`${packed.length} bytes`, `${received}`));
  demand(partial.whole, () => bad("the announced SHA-256", "another"));
}

function bad(expected: string, got: string): Fault {
  return new Fault("bad-message", "upload", { expected, got });
}

function over(got: string): Fault {
  return new Fault("conflict", "upload", { expected: "a sum that takes uploads", got });
}

function tooSlow(): Fault {
  return new Fault("deadline", "upload", {
    expected: `at least ${MIN_BYTES_PER_S} bytes a second`,
    got: "fewer",
  });
}

function tooSlowForMany(): Fault {
  return new Fault("unavailable", "upload", {
    expected: `at least ${CROWDED_BYTES_PER_S} bytes a second while others wait for room`,
    got: "fewer",
    retryAfterMs: CROWDED_MS,
  });
}
