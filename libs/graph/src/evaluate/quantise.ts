import { type Static, sizeOf, type Tensor } from "../ir.ts";
import { levelsOf, packed, roundEven, spreadOf } from "../quantised.ts";
import type { Site } from "../site.ts";
import { numbers, numeric, stridesOf, tensorOf } from "../tensor.ts";
import { filled, only, stretched } from "./rule.ts";

/** For each element, where its scale and zero point lie. */
function scaleOf(at: Site): (i: number) => number {
  const [shape, scales] = [at.shape(0), at.shape(1)];
  if (sizeOf(scales) === 1) return () => 0;
  const axis = at.axis(at.int("axis", 1), shape.length);
  const steps = stridesOf(shape);
  const coordinate = (i: number, d: number) => Math.floor(i / steps[d]!) % shape[d]!;
  const spread = spreadOf(scales, shape, axis);
  if (spread.kind === "axis") return (i) => coordinate(i, axis);
  const own = stridesOf(scales);
  const block = at.int("block_size", 0) || spread.block;
  const along = (i: number, d: number) =>
    d === axis ? Math.floor(coordinate(i, d) / block) : coordinate(i, d);
  return (i) => shape.reduce((sum, _, d) => sum + along(i, d) * own[d]!, 0);
}

/** (x − zero)·scale; a missing zero point is 0, also for uint8 (DequantizeLinear, since version 10). */
export function DequantizeLinear(at: Site, out: readonly Static[]) {
  const [x, scale] = [numeric(at.need(0)), numbers(at.need(1))];
  const zero = at.has(2) ? numbers(at.need(2)) : undefined;
  const place = scaleOf(at);
  return [filled(only(out), (i) => (Number(x[i]!) - (zero?.[place(i)] ?? 0)) * scale[place(i)]!)];
}

/**
 * y = saturate(round(x / scale) + zero), ties to even (QuantizeLinear, since version 10). The quotient is
 * rounded to float32 first, as engines compute it: in doubles a tie of theirs would often be none.
 */
export function QuantizeLinear(at: Site, out: readonly Static[]) {
  const [x, scale] = [numbers(at.need(0)), numbers(at.need(1))];
  const zero = at.has(2) ? numbers(at.need(2)) : undefined;
  const place = scaleOf(at);
  const [low, high] = levelsOf(only(out).dtype)!;
  const level = (i: number) => roundEven(Math.fround(x[i]! / scale[place(i)]!)) + (zero?.[place(i)] ?? 0);
  return [filled(only(out), (i) => Math.min(high, Math.max(low, level(i))))];
}

/**
 * The range always holds zero, so that padding is exact (DynamicQuantizeLinear, since version 11). Each step
 * is rounded to float32, as the standard's own function body would be: one level off would move a whole
 * tensor. Nothing but zeros has scale 1, as onnxruntime has it; the standard's text would divide by zero.
 */
export function DynamicQuantizeLinear(at: Site, out: readonly Static[]) {
  const x = numbers(at.need(0));
  const low = x.reduce((a, b) => Math.min(a, b), 0);
  const high = x.reduce((a, b) => Math.max(a, b), 0);
  const scale = low === high ? 1 : Math.fround(Math.fround(high - low) / 255);
  const zero = Math.min(255, Math.max(0, roundEven(Math.fround(-low / scale))));
  const level = (i: number) => Math.min(255, Math.max(0, roundEven(Math.fround(x[i]! / scale)) + zero));
  return [filled(out[0]!, level), filled(out[1]!, () => scale), filled(out[2]!, () => zero)];
}

/**
 * Zero points: one, or one per row of A and per column of B (MatMulInteger, since version 10). They are
 * subtracted before the product, whose sum int32 holds; a double holds it exactly.
 */
export function MatMulInteger(at: Site, out: readonly Static[]) {
  const [a, b] = [at.shape(0), at.shape(1)];
  const [rows, inner, columns] = [a.at(-2) ?? 1, a.at(-1)!, b.length > 1 ? b.at(-1)! : 1];
  const zeroOf = (index: number) => (at.has(index) ? numbers(at.need(index)) : [0]);
  const [zeroA, zeroB] = [zeroOf(2), zeroOf(3)];
  const [x, y] = [numbers(at.need(0)), numbers(at.need(1))];
  const batch = only(out).shape.slice(0, -2);
  const [startA, startB] = [a, b].map((shape) => stretched(shape.slice(0, -2), batch));
  const element = (i: number) => {
    const [block, row, column] = [
      Math.floor(i / (rows * columns)),
      Math.floor(i / columns) % rows,
      i % columns,
    ];
    let sum = 0;
    for (let k = 0; k < inner; k++) {
      const left = x[(startA![block]! * rows + row) * inner + k]! - (zeroA[row] ?? zeroA[0]!);
      sum += left * (y[(startB![block]! * inner + k) * columns + column]! - (zeroB[column] ?? zeroB[0]!));
    }
    return sum;
  };
  return [filled(only(out), element)];
}

/**
 * B `[K, N]` of a MatMulNBits, dequantised, in the dtype of A. Bytes hold low bits first; zero points are
 * packed too, each row padded to whole bytes, or given in float; without them the middle of the range
 * stands for zero (com.microsoft, MatMulNBits).
 */
export function nBitsWeight(at: Site): Tensor {
  const [k, n, bits, block] = [at.int("K"), at.int("N"), at.int("bits", 4), at.int("block_size")];
  if (![2, 4, 8].includes(bits))
    throw at.fault("unsupported", "bits", { expected: "2, 4 or 8", got: `${bits}` });
  if (at.has(4)) throw at.fault("unsupported", "input g_idx", { expected: "none", got: at.input(4) });
  if (at.int("weight_prepacked", 0) !== 0)
    throw at.fault("unsupported", "weight_prepacked", { expected: "0, the layout of the documentation" });
  const blocks = Math.ceil(k / block);
  const [bytes, scales] = [numeric(at.need(1)) as Uint8Array, numbers(at.need(2))];
  const size = { expected: n * blocks * ((block * bits) / 8), got: bytes.length };
  if (size.expected !== size.got || scales.length !== n * blocks) {
    const expected = `${size.expected} bytes and ${n * blocks} scales`;
    throw at.fault("bad-input", "B", { expected, got: `${bytes.length} and ${scales.length}` });
  }
  const zero = zeroOf(at, { bits, blocks });
  const values = new Float64Array(k * n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < k; column++) {
      const b = Math.floor(column / block);
      const level = packed(bytes, bits, (row * blocks + b) * block + (column % block));
      values[column * n + row] = (level - zero(row, b)) * scales[row * blocks + b]!;
    }
  }
  return tensorOf(at.dtype(0), [k, n], values);
}

function zeroOf(
  at: Site,
  { bits, blocks }: { bits: number; blocks: number },
): (row: number, b: number) => number {
  if (!at.has(3)) return () => 2 ** (bits - 1);
  if (at.dtype(3) !== "uint8") {
    const zeros = numbers(at.need(3));
    return (row, b) => zeros[row * blocks + b]!;
  }
  const zeros = numeric(at.need(3)) as Uint8Array;
  const perRow = Math.ceil((blocks * bits) / 8) * (8 / bits);
  return (row, b) => packed(zeros, bits, row * perRow + b);
}

export function MatMulNBits(at: Site, out: readonly Static[]) {
  const [k, n] = [at.int("K"), at.int("N")];
  const [x, weight] = [numbers(at.need(0)), numbers(nBitsWeight(at))];
  const bias = at.has(5) ? numbers(at.need(5)) : undefined;
  const element = (i: number) => {
    let sum = bias?.[i % n] ?? 0;
    for (let c = 0; c < k; c++) sum += x[Math.floor(i / n) * k + c]! * weight[c * n + (i % n)]!;
    return sum;
  };
  return [filled(only(out), element)];
}
