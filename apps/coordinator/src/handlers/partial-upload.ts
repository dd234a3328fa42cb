import { createHash } from "node:crypto";
import { equalBytes } from "@tutti/foundation/bytes";

/** Whoever is slower than this, over so long, makes room for those who wait for it. */
export const CROWDED_BYTES_PER_S = 64 << 10;
export const CROWDED_MS = 10_000;

/** What a device announced of an upload. */
type Announced = { readonly session: Uint8Array; readonly sha256: Uint8Array };

/** An upload as far as it came: it outlives the connection that it came over. */
export class PartialUpload {
  readonly session: Uint8Array;
  readonly sha256: Uint8Array;
  readonly packed: Uint8Array;
  /** Who reads it now, or did last. */
  reader: AbortController | null = null;
  /** Calls its expiry off; null while it is being read: only what was cut expires. */
  expiry: AbortController | null = null;
  received = 0;
  /** For how long it was read, before the present connection, and since when it is over that. */
  #readMs = 0;
  #sinceMs: number;
  readonly #hash = createHash("sha256");
  #whole: boolean | null = null;

  constructor({ session, sha256 }: Announced, bytes: number, nowMs: number) {
    this.session = session;
    this.sha256 = sha256;
    this.packed = new Uint8Array(bytes);
    this.#sinceMs = nowMs;
  }

  isOf({ session, sha256 }: Announced): boolean {
    return equalBytes(session, this.session) && equalBytes(sha256, this.sha256);
  }

  add(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.packed.set(bytes, this.received);
    this.received += bytes.length;
  }

  /** Its connection ended. */
  pause(nowMs: number): void {
    this.#readMs = this.readMs(nowMs);
    this.#sinceMs = nowMs;
  }

  /** It goes on over another one. */
  goOn(nowMs: number): void {
    this.#sinceMs = nowMs;
  }

  /** For how long it was read in all; what lay between two connections is no fault of a slow link. */
  readMs(nowMs: number): number {
    return this.#readMs + nowMs - this.#sinceMs;
  }

  /** Whether all of it has the hash that was announced; nothing is added after this was asked. */
  get whole(): boolean {
    this.#whole ??= equalBytes(this.#hash.digest(), this.sha256);
    return this.#whole;
  }
}

/**
 * Those that are being read below the rate of a crowd, the slowest first. Devices that trickle, each above
 * the stall rule, could otherwise hold all room for a whole stage.
 */
export function belowCrowdRate<Key>(
  all: readonly [Key, PartialUpload][],
  nowMs: number,
): [Key, PartialUpload][] {
  const rate = (partial: PartialUpload) => (partial.received * 1000) / partial.readMs(nowMs);
  return all
    .filter(([, { expiry }]) => !expiry)
    .filter(([, { received, packed }]) => received < packed.length)
    .filter(([, partial]) => partial.readMs(nowMs) >= CROWDED_MS)
    .filter(([, partial]) => rate(partial) < CROWDED_BYTES_PER_S)
    .sort(([, one], [, other]) => rate(one) - rate(other));
}
