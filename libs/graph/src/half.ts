import { roundEven } from "./quantised.ts";

/**
 * IEEE 754 binary16 and bfloat16, as bits in a Uint16. JavaScript gets Float16Array only in newer
 * engines.
 */

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The number that binary16 bits stand for; every NaN's bits give the one NaN. */
export function fromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The binary16 bits nearest to `value`, ties to even (IEEE 754-2019, section 4.3.1). */
export function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  // 65520 is halfway between the largest finite half and what would follow it.
  if (size >= 65_520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | roundEven(size * 2 ** 24);
  const exponent = Math.min(15, Math.floor(Math.log2(size)));
  // log2 may round up to the next integer just below a power of two.
  const exact = 2 ** exponent > size ? exponent - 1 : exponent;
  return sign | (((exact + 15) << 10) + roundEven((size / 2 ** exact - 1) * 1024));
}

/** The number that bfloat16 bits stand for: a float32 without its lower half. */
export function fromBfloat16(half: number): number {
  bits[0] = half << 16;
  return float[0]!;
}
