import { assert } from "@tutti/foundation/check";
import { type Kernels, kernels } from "./kernels.ts";
import { addIntoTwin } from "./twins/ring.ts";

/** Added at a time: both pieces together stay in the first-level cache. */
const PIECE_WORDS = 1 << 11;

/** Adds `y` into `sum`, word by word mod 2^32; a ring of 2^b with b < 32 is its low b bits. */
export function addInto(sum: Uint32Array, y: Uint32Array): void {
  assert(sum.length === y.length, `a sum of ${sum.length} words takes no vector of ${y.length}`);
  const wasm = kernels();
  if (wasm) addByPieces(wasm, sum, y);
  else addIntoTwin(sum, y);
}

function addByPieces(wasm: Kernels, sum: Uint32Array, y: Uint32Array): void {
  for (let from = 0; from < sum.length; from += PIECE_WORDS) {
    const piece = sum.subarray(from, from + PIECE_WORDS);
    wasm.a.set(piece);
    wasm.b.set(y.subarray(from, from + PIECE_WORDS));
    wasm.code.add(piece.length);
    piece.set(wasm.a.subarray(0, piece.length));
  }
  wasm.wipe(Math.min(sum.length, PIECE_WORDS));
}
