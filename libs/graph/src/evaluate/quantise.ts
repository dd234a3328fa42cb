import { type DType, type Static, sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";
import { numbers, numeric, stridesOf } from "../tensor.ts";
import { filled, only, stretched } from "./rule.ts";

/**
 * For each element, where its scale and zero point lie: one for all, one per index of an axis, or per
 * block of it.
 */
function scaleOf(at: Site): (i: number) => number {
  const [shape, scales] = [at.shape(0), at.shape(1)];
  if (sizeOf(scales) === 1) return () => 0;
  const axis = at.axis(at.int("axis", 1), shape.length);
  const steps = stridesOf(shape);
  const coordinate = (i: number, d: number) => Math.floor(i / steps[d]!) % shape[d]!;
  if (scales.length <= 1) return (i) => coordinate(i, axis);
  // Blocked quantisation (since version 21): scales have the tensor's rank, fewer along the axis.
  const [own, block] = [stridesOf(scales), Math.ceil(shape[axis]! / scales[axis]!)];
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

/** What a level saturates to. The 16-, 4- and 2-bit types of later versions are refused by name. */
const RANGES: Partial<Record<DType, readonly [number, number]>> = { uint8: [0, 255], int8: [-128, 127] };

/**
 * y = saturate(round(x / scale) + zero), ties to even (QuantizeLinear, since version 10). The quotient is
 * rounded to float32 first, as engines compute it: in doubles a tie of theirs would often be none.
 */
export function QuantizeLinear(at: Site, out: readonly Static[]) {
  const { dtype } = only(out);
  const range = RANGES[dtype];
  if (!range) throw at.fault("unsupported", "zero point", { expected: "uint8 or int8", got: dtype });
  const [x, scale] = [numbers(at.need(0)), numbers(at.need(1))];
  const zero = at.has(2) ? numbers(at.need(2)) : undefined;
  const place = scaleOf(at);
  const [low, high] = range;
  const level = (i: number) => roundEven(Math.fround(x[i]! / scale[place(i)]!)) + (zero?.[place(i)] ?? 0);
  return [filled(only(out), (i) => Math.min(high, Math.max(low, level(i))))];
}

/**
 * The range always holds zero, so that padding is exact (DynamicQuantizeLinear, since version 11). Each step
 * is rounded to float32, as the standard's own function body would be: one level off would move a whole
 * tensor.
 */
export function DynamicQuantizeLinear(at: Site, out: readonly Static[]) {
  const x = numbers(at.need(0));
  const low = x.reduce((a, b) => Math.min(a, b), 0);
  const high = x.reduce((a, b) => Math.max(a, b), 0);
  const scale = Math.fround(Math.fround(high - low) / 255);
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
 * Low nibble first; without zero points the middle of the range stands for zero (com.microsoft,
 * MatMulNBits).
 */
export function MatMulNBits(at: Site, out: readonly Static[]) {
  const [k, n, bits, block] = [at.int("K"), at.int("N"), at.int("bits", 4), at.int("block_size")];
  if (bits !== 4 || at.has(4))
    throw at.fault("unsupported", "bits", { expected: "4, without g_idx", got: `${bits}` });
  const [x, packed, scales] = [numbers(at.need(0)), numeric(at.need(1)), numbers(at.need(2))];
  const zeros = at.has(3) ? numeric(at.need(3)) : undefined;
  const blocks = Math.ceil(k / block);
  const nibble = (bytes: typeof packed, i: number) => (Number(bytes[i >> 1]!) >> (4 * (i & 1))) & 15;
  const weight = (row: number, column: number) => {
    const b = Math.floor(column / block);
    // Zero points are packed too, each row padded to whole bytes.
    const zero = zeros ? nibble(zeros, row * 2 * Math.ceil(blocks / 2) + b) : 8;
    return (nibble(packed, (row * blocks + b) * block + (column % block)) - zero) * scales[row * blocks + b]!;
  };
  const element = (i: number) => {
    let sum = at.has(5) ? numbers(at.need(5))[i % n]! : 0;
    for (let c = 0; c < k; c++) sum += x[Math.floor(i / n) * k + c]! * weight(i % n, c);
    return sum;
  };
  return [filled(only(out), element)];
}

/** Ties to even: Math.round sends them up. */
function roundEven(x: number): number {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2 === 0 ? 0 : 1) : Math.round(x);
}
