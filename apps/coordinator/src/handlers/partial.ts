import { createHash } from "node:crypto";
import { equalBytes } from "@tutti/foundation/bytes";

/** What a device announced of an upload. */
type Announced = { readonly session: Uint8Array; readonly sha256: Uint8Array };

/** An upload as far as it came: it outlives the connection that it came over. */
export class Partial {
  readonly session: Uint8Array;
  readonly sha256: Uint8Array;
  readonly packed: Uint8Array;
  /** Who reads it now, or did last. */
  reader: AbortController | null = null;
  /** Ends its keeping, while nobody sends more of it. */
  kept: AbortController | null = null;
  received = 0;
  readonly #hash = createHash("sha256");
  #whole: boolean | null = null;

  constructor({ session, sha256 }: Announced, bytes: number) {
    this.session = session;
    this.sha256 = sha256;
    this.packed = new Uint8Array(bytes);
  }

  isOf({ session, sha256 }: Announced): boolean {
    return equalBytes(session, this.session) && equalBytes(sha256, this.sha256);
  }

  add(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.packed.set(bytes, this.received);
    this.received += bytes.length;
  }

  /** Whether all of it has the hash that was announced; nothing is added after this was asked. */
  get whole(): boolean {
    this.#whole ??= equalBytes(this.#hash.digest(), this.sha256);
    return this.#whole;
  }
}
