import { A } from "./memory";

/** Butterflies of strides 1 and 2, inside each vector of four. */
function lanes(end: i32): void {
  const odd = i32x4(0, 0x80000000, 0, 0x80000000);
  const high = i32x4(0, 0, 0x80000000, 0x80000000);
  for (let at = A; at < end; at += 16) {
    let v = v128.load(at);
    v = f32x4.add(i32x4.shuffle(v, v, 1, 0, 3, 2), v128.xor(v, odd));
    v = f32x4.add(i32x4.shuffle(v, v, 2, 3, 0, 1), v128.xor(v, high));
    v128.store(at, v);
  }
}

/** One stride, in bytes. */
function two(end: i32, stride: i32): void {
  for (let row = A; row < end; row += 2 * stride) {
    for (let at = row, last = row + stride; at < last; at += 16) {
      const x = v128.load(at);
      const y = v128.load(at + stride);
      v128.store(at, f32x4.add(x, y));
      v128.store(at + stride, f32x4.sub(x, y));
    }
  }
}

/** A stride and its double in one pass over the memory; the same sums in the same order as one by one. */
function four(end: i32, stride: i32): void {
  for (let row = A; row < end; row += 4 * stride) {
    for (let at = row, last = row + stride; at < last; at += 16) {
      const w = v128.load(at);
      const x = v128.load(at + stride);
      const y = v128.load(at + 2 * stride);
      const z = v128.load(at + 3 * stride);
      const wx = f32x4.add(w, x);
      const xw = f32x4.sub(w, x);
      const yz = f32x4.add(y, z);
      const zy = f32x4.sub(y, z);
      v128.store(at, f32x4.add(wx, yz));
      v128.store(at + stride, f32x4.add(xw, zy));
      v128.store(at + 2 * stride, f32x4.sub(wx, yz));
      v128.store(at + 3 * stride, f32x4.sub(xw, zy));
    }
  }
}

/**
 * Walsh–Hadamard butterflies over the first `floats` of A (a power of two, at least 4): strides from `stride`
 * (1, or at least 4) up to half, then a product with `factor`.
 */
export function hadamard(floats: i32, stride: i32, factor: f32): void {
  const end = A + 4 * floats;
  let bytes = 4 * stride;
  if (stride === 1) {
    lanes(end);
    bytes = 16;
  }
  for (; 4 * bytes <= end - A; bytes *= 4) four(end, bytes);
  if (2 * bytes <= end - A) two(end, bytes);
  if (factor === 1) return;
  for (let at = A; at < end; at += 16) v128.store(at, f32x4.mul(v128.load(at), f32x4.splat(factor)));
}
