/**
 * Half-width floats to float32, for reading files. libs/graph has its own (half.ts); this room's file readers
 * stay free of graph code because the coordinator uses them. A test holds the two together.
 */

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** binary16 bits (IEEE 754-2019, section 3.6) as float32 numbers; every half is exactly a float32. */
export function widenFloat16(halves: Uint16Array): Float32Array {
  return Float32Array.from(halves, (half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const [exponent, fraction] = [(half >> 10) & 0x1f, half & 0x3ff];
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

/** bfloat16 bits as float32 numbers: the upper half of a float32. */
export function widenBfloat16(halves: Uint16Array): Float32Array {
  return Float32Array.from(halves, (half) => {
    bits[0] = half << 16;
    return float[0]!;
  });
}
