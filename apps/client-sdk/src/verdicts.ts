import { assert } from "@tutti/foundation/check";
import type { Check } from "@tutti/secagg/device/ahead";
import { MAX_MEMBERS } from "@tutti/secagg/threshold";
import { Recent } from "./recent.ts";

/** About 450 bytes each for certificates of usual length: 4 MB in both generations. */
const MOST = 4096;
/** Longer messages are not remembered: a certificate's body is below this, unless it has many labels. */
const MAX_MESSAGE_BYTES = 1024;

// Of a round's signatures, both links of each certificate come again in the next one; a member's attestation
// is another each time.
assert(
  3 * MAX_MEMBERS <= MOST,
  "a round's signatures fit one generation, so certificates stay from one to the next",
);

/**
 * Good verdicts on signatures, so that a peer's certificate is verified once and not in every round. The
 * whole question is the key, byte for byte: there is no hash to collide. Bad verdicts are not kept.
 */
export class Verdicts {
  readonly #good = new Recent<true>(MOST);

  /** The name under which a check is remembered; null for one that is not. */
  keyOf({ publicKey, message, signature }: Check): string | null {
    // The first two have a length of their own, so no two checks have one name.
    if (publicKey.length !== 32 || signature.length !== 64 || message.length > MAX_MESSAGE_BYTES) return null;
    return latin1(publicKey) + latin1(signature) + latin1(message);
  }

  isGood(key: string | null): boolean {
    return key !== null && this.#good.get(key) === true;
  }

  remember(key: string | null): void {
    if (key !== null) this.#good.set(key, true);
  }
}

/** A character for each byte. */
export function latin1(bytes: Uint8Array): string {
  return String.fromCharCode.apply(null, bytes as unknown as number[]);
}
