import { A, B } from "./memory";

/** 1.5·2^52: added to a whole number below 2^31 in size, its low 32 bits are the number's as an int32. */
const WHOLE: f64 = 6755399441055744;

/** Two values' floor, one more where the uniform bits lie below the fraction; as int32 in words 0 and 2. */
function round(value: v128, uniform: v128): v128 {
  const floor = f64x2.floor(value);
  const fraction = f64x2.mul(f64x2.sub(value, floor), f64x2.splat(4294967296));
  const up = f64x2.lt(f64x2.convert_low_i32x4_u(uniform), fraction);
  return f64x2.add(f64x2.add(floor, v128.and(up, f64x2.splat(1))), f64x2.splat(WHOLE));
}

function scaled(values: v128, limit: v128, factor: v128): v128 {
  const x = f64x2.promote_low_f32x4(values);
  return f64x2.mul(f64x2.pmin(f64x2.pmax(x, f64x2.neg(limit)), limit), factor);
}

function upper(x: v128): v128 {
  return i64x2.shuffle(x, x, 1, 1);
}

/** A's float32 become words of `bits` bits; B has 32 uniform bits for each. In whole vectors of four. */
export function quantise(words: i32, factor: f64, limit: f64, bits: i32): void {
  const by = f64x2.splat(factor);
  const within = f64x2.splat(limit);
  const low = i32x4.splat(-1 >>> (32 - bits));
  for (let at = 0, end = 4 * words; at < end; at += 16) {
    const values = v128.load(A + at);
    const uniform = v128.load(B + at);
    const first = round(scaled(values, within, by), uniform);
    const second = round(scaled(upper(values), within, by), upper(uniform));
    v128.store(A + at, v128.and(i32x4.shuffle(first, second, 0, 2, 4, 6), low));
  }
}
