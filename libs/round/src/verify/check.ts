import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Verify } from "@tutti/identity/keys";

/** Something that was looked at and holds: what, and what was found, in words for a person. */
export type Check = { readonly what: string; readonly found: string };

/** The authority that certificates must lead to, and the moment they must be valid at, in seconds. */
export type Trust = { readonly authority: Uint8Array; readonly nowS: number; readonly verify?: Verify };

/** @throws Fault("refused") naming `what`. */
export function must(what: string, fine: unknown, detail: { expected: string; got: string }): asserts fine {
  demand(fine, () => new Fault("refused", what, detail));
}

/** @throws Fault("refused") naming `what`, unless both say the same. */
export function mustEqual(what: string, expected: string | number, got: string | number): void {
  must(what, expected === got, { expected: `${expected}`, got: `${got}` });
}

/** The beginning of a hash, for people. */
export function short(hash: string): string {
  return hash.slice(0, 12);
}
