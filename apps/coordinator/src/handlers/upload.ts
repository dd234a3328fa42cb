import { createHash } from "node:crypto";
import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { packedBytes, unpackBits } from "@tutti/kernels/pack";
import { cohortOf, type Round } from "@tutti/round/round";
import { termsOf } from "@tutti/round/spec";
import { sessionId, take } from "@tutti/round/summing";
import type { UploadHeader, UploadPart } from "@tutti/wire/secagg";
import type { Upload } from "../drive/waiting.ts";
import { MIN_BYTES_PER_S, STALL_MS } from "../grpc/stall.ts";

type Part = UploadPart["part"];
type Session = { readonly sid: Uint8Array; readonly bits: number; readonly length: number };

/**
 * The uploads that are being read: one of each device, in one buffer of the announced size. A device that
 * comes again has lost the line of its earlier one, which is given up.
 */
export class Uploads {
  readonly #clock: Clock;
  readonly #reading = new Map<string, AbortController>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * The masked vector of an upload: exactly the session's words, its hash as announced, else nothing is
   * taken. Null, unread, for a device whose vector is in the sum already.
   * @throws Fault("conflict" or "refused") from the header alone for a session or a device that takes no
   * upload; Fault("deadline") below the stall rule.
   */
  async read(round: Round | null, device: string, parts: AsyncIterable<UploadPart>): Promise<Upload | null> {
    const at = round && cohortOf(round, device);
    if (!round || at === null)
      throw new Fault("conflict", "upload", { expected: "a session that takes uploads", got: "none" });
    const { sum, dropped } = round.cohorts[at]!;
    const { bits, length } = termsOf(round.spec);
    const session = { sid: sessionId(sum), bits, length };
    const stop = new AbortController();
    this.#reading.get(device)?.abort(new Fault("cancelled", "upload", { got: "another of the same device" }));
    this.#reading.set(device, stop);
    const bytes = packedBytes(bits, length);
    this.#clock.sleep(STALL_MS + (bytes / MIN_BYTES_PER_S) * 1000, stop.signal).then(
      () => stop.abort(tooSlow()),
      () => {},
    );
    const next = reader(parts, stop.signal);
    try {
      const header = headerOf(await next(), session);
      // The machine's own answer to an upload now: what it would refuse is not read, nor is a repeat.
      if (take(sum, device, { case: "uploaded", value: true }) === sum) return null;
      if (dropped) throw new Fault("conflict", "upload", { expected: "a cohort in progress", got: dropped });
      const packed = await fill(new Uint8Array(bytes), next, header);
      return { vector: unpackBits(packed, bits, length), session: session.sid };
    } finally {
      stop.abort();
      if (this.#reading.get(device) === stop) this.#reading.delete(device);
    }
  }
}

/** Reads one part at a time, undefined after the last, until the signal gives its reason. */
function reader(parts: AsyncIterable<UploadPart>, signal: AbortSignal): () => Promise<Part | undefined> {
  const iterator = parts[Symbol.asyncIterator]();
  const stopped = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  stopped.catch(() => {});
  return async () => {
    const { done, value } = await Promise.race([iterator.next(), stopped]);
    return done ? undefined : value.part;
  };
}

function headerOf(part: Part | undefined, { sid, bits, length }: Session): UploadHeader {
  if (part?.case !== "header") throw bad("a header, then chunks", part?.case ?? "nothing");
  const { value: header } = part;
  if (!equalBytes(header.session, sid))
    throw new Fault("conflict", "upload", { expected: "the session in progress", got: "another" });
  const bytes = packedBytes(bits, length);
  demand(header.packedBytes === bytes, () => bad(`${bytes} bytes`, `${header.packedBytes}`));
  return header;
}

/** The chunks in their place; at most one part is read beyond the last byte, and none is empty. */
async function fill(
  packed: Uint8Array,
  next: () => Promise<Part | undefined>,
  header: UploadHeader,
): Promise<Uint8Array> {
  const hash = createHash("sha256");
  let received = 0;
  for (let part = await next(); part !== undefined; part = await next()) {
    if (part.case !== "chunk") throw bad("a header, then chunks", part.case ?? "nothing");
    const { value: chunk } = part;
    demand(chunk.length > 0, () => bad("chunks that hold something", "an empty one"));
    demand(received + chunk.length <= packed.length, () => bad(`${packed.length} bytes`, "more"));
    hash.update(chunk);
    packed.set(chunk, received);
    received += chunk.length;
  }
  demand(received === packed.length, () => bad(`${packed.length} bytes`, `${received}`));
  demand(equalBytes(hash.digest(), header.sha256), () => bad("the announced SHA-256", "another"));
  return packed;
}

function bad(expected: string, got: string): Fault {
  return new Fault("bad-message", "upload", { expected, got });
}

function tooSlow(): Fault {
  return new Fault("deadline", "upload", {
    expected: `at least ${MIN_BYTES_PER_S} bytes a second`,
    got: "fewer",
  });
}
