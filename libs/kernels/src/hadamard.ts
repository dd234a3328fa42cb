import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Kernels, kernels } from "./kernels.ts";
import { walshHadamardTwin } from "./twins/hadamard.ts";

/** Most coordinates: 2^26, as many as an update may have after padding. */
const MAX_LENGTH = 2 ** 26;
/**
 * Rows that are brought together for large strides. They are a power of two apart, so caches have few places
 * for them: with 64 the transform took twice as long.
 */
const ROWS = 16;

/**
 * The orthonormal Walsh–Hadamard transform of `x` in place: x ← Hx/√d, where H has (−1)^popcount(i AND j) in
 * row i, column j. Its length d is a power of two up to 2^26, else a Fault; it is its own inverse, up to
 * rounding in float32. Strides are taken in ascending order whatever the engine, so the bits are the same.
 */
export function walshHadamard(x: Float32Array): void {
  const d = x.length;
  if (d < 1 || d > MAX_LENGTH || !Number.isInteger(Math.log2(d)))
    throw new Fault("bad-input", "transform's length", { expected: "a power of two to 2^26", got: `${d}` });
  const wasm = kernels();
  if (wasm && d >= 4) transformByPieces(wasm, x);
  else walshHadamardTwin(x);
}

function transformByPieces(wasm: Kernels, x: Float32Array): void {
  const tile = Math.min(x.length, wasm.pieceWords);
  transform(wasm, x, { rows: 1, stride: tile, width: tile });
  for (let stride = tile; stride < x.length; stride *= ROWS) {
    const rows = Math.min(ROWS, x.length / stride);
    transform(wasm, x, { rows, stride, width: tile / rows });
  }
  wasm.wipe(tile);
}

/** Pieces of `rows` rows, `stride` apart, of `width` coordinates each. */
type Tiling = { readonly rows: number; readonly stride: number; readonly width: number };

/** All strides within a row (one row), or those from row to row (several), of the whole vector. */
function transform({ floats, code }: Kernels, x: Float32Array, { rows, stride, width }: Tiling): void {
  assert(width <= stride && width * rows <= floats.length, "a piece fits, and its rows do not overlap");
  const last = rows * stride === x.length;
  const factor = last ? Math.fround(1 / Math.sqrt(x.length)) : 1;
  for (let group = 0; group < x.length; group += rows * stride) {
    for (let from = group; from < group + stride; from += width) {
      for (let row = 0; row < rows; row++) {
        const at = from + row * stride;
        floats.set(x.subarray(at, at + width), row * width);
      }
      code.hadamard(rows * width, rows === 1 ? 1 : width, factor);
      for (let row = 0; row < rows; row++) {
        x.set(floats.subarray(row * width, (row + 1) * width), from + row * stride);
      }
    }
  }
}
