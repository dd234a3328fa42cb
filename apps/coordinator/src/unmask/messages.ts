import type { FaultCode } from "@tutti/foundation/fault";
import type { Lift } from "@tutti/secagg/server/lift";

/** Begin with zeros, take masks off, hand over what that came to: once per unmasking. */
export type ToThread =
  | { readonly kind: "begin"; readonly length: number }
  | { readonly kind: "lift"; readonly lifts: readonly Lift[] }
  | { readonly kind: "end" };

/** One "lifted" for every "lift"; "partial" answers "end", its buffer moved and not copied. */
export type FromThread =
  | { readonly kind: "lifted" }
  | { readonly kind: "partial"; readonly words: Uint32Array<ArrayBuffer> }
  | { readonly kind: "fault"; readonly code: FaultCode; readonly message: string };
