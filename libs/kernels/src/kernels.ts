import { fromBase64 } from "@tutti/foundation/bytes";
import { assert } from "@tutti/foundation/check";
import { KERNELS } from "./gen/kernels.ts";

/**
 * The compiled kernels and views of their memory, which stays where it is and as large as it is. Each works
 * on a piece; longer vectors are brought in piece by piece.
 */
export type Kernels = {
  readonly code: Code;
  /** Most words of a piece. */
  readonly pieceWords: number;
  /** The key of the stream, 32 bytes. */
  readonly key: Uint8Array;
  /** Its nonce, 3 words (RFC 8439 section 2.3). */
  readonly nonce: Uint32Array;
  /** Area A, the piece itself, as words and as float32. */
  readonly a: Uint32Array;
  readonly floats: Float32Array;
  /** Area B, what is added to the piece or made of it, as words and as bytes. */
  readonly b: Uint32Array;
  readonly bytes: Uint8Array;
  /** Zeroes key, nonce and what a piece of so many words has left in both areas. */
  wipe(words: number): void;
};

/** What libs/kernels/assembly/index.ts exports; each function says there what it does. */
type Code = { readonly memory: WebAssembly.Memory } & {
  readonly [place in "KEY" | "A" | "B" | "END" | "PIECE_WORDS"]: { readonly value: number };
} & {
  mask(at: number, end: number, block: number, flip: 0 | -1): void;
  add(words: number): void;
  addUnpacked(words: number, bits: number): void;
  pack(words: number, bits: number): void;
  quantise(words: number, factor: number, limit: number, bits: number): void;
  hadamard(floats: number, stride: number, factor: number): void;
};

/**
 * The one thing of this room at module level: made from constant bytes when first asked for, and empty
 * between calls.
 */
let made: Kernels | null | undefined;

/** The kernels, or null where WebAssembly with SIMD cannot be had; then the twins do the same, slower. */
export function kernels(): Kernels | null {
  if (made === undefined) made = instantiate();
  return made;
}

function instantiate(): Kernels | null {
  const binary = new Uint8Array(fromBase64(KERNELS));
  // SIMD is part of the module, so an engine without it finds the module invalid.
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(binary)) return null;
  try {
    const instance = new WebAssembly.Instance(new WebAssembly.Module(binary));
    return withViews(instance.exports as unknown as Code);
  } catch (refused) {
    // A page's content security policy may forbid to compile, and memory may not be had.
    if (refused instanceof WebAssembly.CompileError || refused instanceof RangeError) return null;
    throw refused;
  }
}

function withViews(code: Code): Kernels {
  const { buffer } = code.memory;
  const [keyAt, aAt, bAt] = [code.KEY.value, code.A.value, code.B.value];
  const pieceWords = code.PIECE_WORDS.value;
  assert(code.END.value <= buffer.byteLength, "both areas are inside the memory");
  const whole = new Uint8Array(buffer);
  const spare = bAt - aAt - 4 * pieceWords;
  return {
    code,
    pieceWords,
    key: new Uint8Array(buffer, keyAt, 32),
    nonce: new Uint32Array(buffer, keyAt + 32, 3),
    a: new Uint32Array(buffer, aAt, pieceWords),
    floats: new Float32Array(buffer, aAt, pieceWords),
    b: new Uint32Array(buffer, bAt, pieceWords),
    bytes: new Uint8Array(buffer, bAt, 4 * pieceWords),
    wipe(words) {
      const used = 4 * Math.min(words, pieceWords) + spare;
      whole.fill(0, keyAt, aAt + used);
      whole.fill(0, bAt, bAt + used);
    },
  };
}
