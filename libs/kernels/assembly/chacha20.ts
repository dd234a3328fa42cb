import { KEY } from "./memory";

// RFC 8439 section 2.3, four blocks at once: lane i of every vector belongs to block i, so a quarter round is
// the same few instructions for all four, and nothing moves between lanes until the end.

const SIGMA_0: i32 = 0x61707865;
const SIGMA_1: i32 = 0x3320646e;
const SIGMA_2: i32 = 0x79622d32;
const SIGMA_3: i32 = 0x6b206574;

function add(x: v128, y: v128): v128 {
  return i32x4.add(x, y);
}

/** (x ⊕ y) rotated left by 16: engines know this shuffle as one of halves of words. */
function mix16(x: v128, y: v128): v128 {
  const z = v128.xor(x, y);
  return i8x16.shuffle(z, z, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
}

function mix12(x: v128, y: v128): v128 {
  const z = v128.xor(x, y);
  return v128.or(i32x4.shl(z, 12), i32x4.shr_u(z, 20));
}

/** By 8 as a swizzle: measured faster than the shuffle, whose pattern V8 builds anew each time. */
function mix8(x: v128, y: v128): v128 {
  return i8x16.swizzle(v128.xor(x, y), i8x16(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14));
}

function mix7(x: v128, y: v128): v128 {
  const z = v128.xor(x, y);
  return v128.or(i32x4.shl(z, 7), i32x4.shr_u(z, 25));
}

/** Word `i` of the key, or behind it of the nonce from 8 on, in every lane. */
function keyWord(i: i32): v128 {
  return v128.load32_splat(KEY + 4 * i);
}

/** Adds the stream, or takes it away where `flip` is all ones: ~(~y + k) = y − k. */
function put(at: i32, stream: v128, flip: v128): void {
  v128.store(at, v128.xor(add(v128.xor(v128.load(at), flip), stream), flip));
}

/** Four words of four blocks, turned from a word per vector to a block per vector, 64 bytes apart. */
function finish(at: i32, w: v128, x: v128, y: v128, z: v128, flip: v128): void {
  const low = i32x4.shuffle(w, x, 0, 4, 1, 5);
  const lowNext = i32x4.shuffle(y, z, 0, 4, 1, 5);
  const high = i32x4.shuffle(w, x, 2, 6, 3, 7);
  const highNext = i32x4.shuffle(y, z, 2, 6, 3, 7);
  put(at, i64x2.shuffle(low, lowNext, 0, 2), flip);
  put(at + 64, i64x2.shuffle(low, lowNext, 1, 3), flip);
  put(at + 128, i64x2.shuffle(high, highNext, 0, 2), flip);
  put(at + 192, i64x2.shuffle(high, highNext, 1, 3), flip);
}

/**
 * Adds (`flip` 0) or subtracts (−1) the keystream under KEY and its nonce, from `block` on, to the words in
 * [at, end), mod 2^32. It ends with a whole four blocks, up to 252 bytes beyond `end`.
 */
// biome-ignore format: a line is one step of four quarter rounds
export function mask(at: i32, end: i32, block: i32, flip: i32): void {
  const sign = i32x4.splat(flip);
  let counter = add(i32x4.splat(block), i32x4(0, 1, 2, 3));
  for (; at < end; at += 256) {
    let a0 = i32x4.splat(SIGMA_0), a1 = i32x4.splat(SIGMA_1);
    let a2 = i32x4.splat(SIGMA_2), a3 = i32x4.splat(SIGMA_3);
    let b0 = keyWord(0), b1 = keyWord(1), b2 = keyWord(2), b3 = keyWord(3);
    let c0 = keyWord(4), c1 = keyWord(5), c2 = keyWord(6), c3 = keyWord(7);
    let d0 = counter, d1 = keyWord(8), d2 = keyWord(9), d3 = keyWord(10);
    for (let twoRounds = 0; twoRounds < 10; twoRounds++) {
      a0 = add(a0, b0); a1 = add(a1, b1); a2 = add(a2, b2); a3 = add(a3, b3);
      d0 = mix16(d0, a0); d1 = mix16(d1, a1); d2 = mix16(d2, a2); d3 = mix16(d3, a3);
      c0 = add(c0, d0); c1 = add(c1, d1); c2 = add(c2, d2); c3 = add(c3, d3);
      b0 = mix12(b0, c0); b1 = mix12(b1, c1); b2 = mix12(b2, c2); b3 = mix12(b3, c3);
      a0 = add(a0, b0); a1 = add(a1, b1); a2 = add(a2, b2); a3 = add(a3, b3);
      d0 = mix8(d0, a0); d1 = mix8(d1, a1); d2 = mix8(d2, a2); d3 = mix8(d3, a3);
      c0 = add(c0, d0); c1 = add(c1, d1); c2 = add(c2, d2); c3 = add(c3, d3);
      b0 = mix7(b0, c0); b1 = mix7(b1, c1); b2 = mix7(b2, c2); b3 = mix7(b3, c3);
      // The diagonals: a, with b, c and d one, two and three columns on.
      a0 = add(a0, b1); a1 = add(a1, b2); a2 = add(a2, b3); a3 = add(a3, b0);
      d3 = mix16(d3, a0); d0 = mix16(d0, a1); d1 = mix16(d1, a2); d2 = mix16(d2, a3);
      c2 = add(c2, d3); c3 = add(c3, d0); c0 = add(c0, d1); c1 = add(c1, d2);
      b1 = mix12(b1, c2); b2 = mix12(b2, c3); b3 = mix12(b3, c0); b0 = mix12(b0, c1);
      a0 = add(a0, b1); a1 = add(a1, b2); a2 = add(a2, b3); a3 = add(a3, b0);
      d3 = mix8(d3, a0); d0 = mix8(d0, a1); d1 = mix8(d1, a2); d2 = mix8(d2, a3);
      c2 = add(c2, d3); c3 = add(c3, d0); c0 = add(c0, d1); c1 = add(c1, d2);
      b1 = mix7(b1, c2); b2 = mix7(b2, c3); b3 = mix7(b3, c0); b0 = mix7(b0, c1);
    }
    a0 = add(a0, i32x4.splat(SIGMA_0)); a1 = add(a1, i32x4.splat(SIGMA_1));
    a2 = add(a2, i32x4.splat(SIGMA_2)); a3 = add(a3, i32x4.splat(SIGMA_3));
    finish(at, a0, a1, a2, a3, sign);
    finish(at + 16, add(b0, keyWord(0)), add(b1, keyWord(1)), add(b2, keyWord(2)), add(b3, keyWord(3)), sign);
    finish(at + 32, add(c0, keyWord(4)), add(c1, keyWord(5)), add(c2, keyWord(6)), add(c3, keyWord(7)), sign);
    finish(at + 48, add(d0, counter), add(d1, keyWord(8)), add(d2, keyWord(9)), add(d3, keyWord(10)), sign);
    counter = add(counter, i32x4.splat(4));
  }
}
