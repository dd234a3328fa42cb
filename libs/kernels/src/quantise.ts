import { assert, checkBytes, checkInteger } from "@tutti/foundation/check";
import { kernels } from "./kernels.ts";
import { placeOf, SLICE_WORDS } from "./slices.ts";
import { roundWordsTwin } from "./twins/quantise.ts";

/** Rounded at a time: values and uniform bits stay in the first-level cache. */
const PIECE_WORDS = 1 << 11;

assert(SLICE_WORDS % PIECE_WORDS === 0, "pieces tile slices");

/** How `roundWords` rounds. */
export type Rounding = {
  /** Steps per one. */
  readonly factor: number;
  /** Values beyond ±limit are cut to it; limit·factor is at most 2^31 − 1. */
  readonly limit: number;
  /** Width of a word, 1..32. */
  readonly bits: number;
  /** 32 bytes for the dice alone, of no other stream. */
  readonly key: Uint8Array;
};

/**
 * `q = round(cut(x, ±limit)·factor)` of each value, in two's complement mod 2^bits. Rounding is stochastic:
 * up where the value's word of the ChaCha20 keystream under `key` (as in `addKeystream`) is below
 * fraction·2^32. So it is exact on the grid, and off by less than 2^−32 of a step on average. All in float64,
 * the same on every machine. Values are finite: the caller checks.
 */
export function roundWords(values: Float32Array, at: Rounding): Uint32Array {
  const { factor, limit, bits, key } = at;
  checkInteger("bits", bits, [1, 32]);
  checkBytes("rounding key", key, 32, "bad-input");
  assert(factor >= 0 && limit >= 0 && factor * limit <= 2 ** 31 - 1, "steps fit a word with a sign");
  const wasm = kernels();
  if (!wasm) return roundWordsTwin(values, at);
  const words = new Uint32Array(values.length);
  const uniform = wasm.code.B.value;
  wasm.key.set(key);
  for (let from = 0; from < values.length; from += PIECE_WORDS) {
    const piece = values.subarray(from, from + PIECE_WORDS);
    const [slice, block] = placeOf(from);
    wasm.nonce[0] = slice;
    wasm.floats.set(piece);
    wasm.b.fill(0, 0, piece.length);
    wasm.code.mask(uniform, uniform + 4 * piece.length, block, 0);
    wasm.code.quantise(piece.length, factor, limit, bits);
    words.set(wasm.a.subarray(0, piece.length), from);
  }
  wasm.wipe(Math.min(values.length, PIECE_WORDS));
  return words;
}
