// Both directions move at most 16 bits at a time: with up to 7 bits waiting, 23 fit an int32 and the loop
// stays in integer arithmetic.

/** `packBits` in TypeScript. */
export function packBitsTwin(words: Uint32Array, bits: number): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((bits * words.length) / 8));
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

/** `addPacked` in TypeScript, and with a sum of zeros `unpackBits`; the bytes are checked already. */
export function addPackedTwin(sum: Uint32Array, bytes: Uint8Array, bits: number): void {
  const [low, high] = halves(bits);
  let at = 0;
  let waiting = 0;
  let held = 0;
  for (let i = 0; i < sum.length; i++) {
    for (; held < low.bits; held += 8) waiting |= bytes[at++]! << held;
    const first = waiting & low.mask;
    waiting >>>= low.bits;
    held -= low.bits;
    for (; held < high.bits; held += 8) waiting |= bytes[at++]! << held;
    sum[i] = sum[i]! + (first | ((waiting & high.mask) << 16));
    waiting >>>= high.bits;
    held -= high.bits;
  }
}

type Half = { readonly bits: number; readonly mask: number };

function halves(bits: number): [Half, Half] {
  const low = Math.min(bits, 16);
  return [half(low), half(bits - low)];
}

function half(bits: number): Half {
  return { bits, mask: 2 ** bits - 1 };
}
