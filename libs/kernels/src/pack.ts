import { checkInteger } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

// Word i is bits [i·b, (i+1)·b) of the byte string, least significant first. Both directions move at most 16
// bits at a time: with up to 7 bits waiting, 23 fit an int32 and the loop stays in integer arithmetic.

/** Bytes that `length` words of `bits` bits take on the wire. */
export function packedBytes(bits: number, length: number): number {
  return Math.ceil((bits * length) / 8);
}

/** The low `bits` (1..32) bits of each word, end to end; spare bits of the last byte are zero. */
export function packBits(words: Uint32Array, bits: number): Uint8Array {
  checkInteger("bits", bits, [1, 32]);
  const bytes = new Uint8Array(packedBytes(bits, words.length));
  const [low, high] = halves(bits);
  let at = 0;
  let waiting = 0;
  let held = 0;
  for (const word of words) {
    waiting |= (word & low.mask) << held;
    for (held += low.bits; held >= 8; held -= 8, waiting >>>= 8) bytes[at++] = waiting;
    waiting |= ((word >>> 16) & high.mask) << held;
    for (held += high.bits; held >= 8; held -= 8, waiting >>>= 8) bytes[at++] = waiting;
  }
  if (held > 0) bytes[at] = waiting;
  return bytes;
}

/**
 * `length` words of `bits` bits each from exactly the bytes that `packBits` makes.
 * @throws Fault("bad-message") for any other length, or for spare bits that are not zero.
 */
export function unpackBits(bytes: Uint8Array, bits: number, length: number): Uint32Array {
  checkInteger("bits", bits, [1, 32]);
  const expected = packedBytes(bits, length);
  if (bytes.length !== expected)
    throw new Fault("bad-message", "packed words", { expected: `${expected} bytes`, got: `${bytes.length}` });
  const words = new Uint32Array(length);
  const [low, high] = halves(bits);
  let at = 0;
  let waiting = 0;
  let held = 0;
  for (let i = 0; i < length; i++) {
    for (; held < low.bits; held += 8) waiting |= bytes[at++]! << held;
    const first = waiting & low.mask;
    waiting >>>= low.bits;
    held -= low.bits;
    for (; held < high.bits; held += 8) waiting |= bytes[at++]! << held;
    words[i] = first | ((waiting & high.mask) << 16);
    waiting >>>= high.bits;
    held -= high.bits;
  }
  if (waiting !== 0)
    throw new Fault("bad-message", "packed words", { expected: "spare bits of zero", got: "others" });
  return words;
}

type Half = { readonly bits: number; readonly mask: number };

function halves(bits: number): [Half, Half] {
  const low = Math.min(bits, 16);
  return [half(low), half(bits - low)];
}

function half(bits: number): Half {
  return { bits, mask: 2 ** bits - 1 };
}
