import { A, B } from "./memory";

/** A += B, mod 2^32. Runs on to whole vectors of four words. */
export function add(words: i32): void {
  for (let at = 0, end = 4 * words; at < end; at += 16) {
    v128.store(A + at, i32x4.add(v128.load(A + at), v128.load(B + at)));
  }
}

/** A += the words of `bits` bits that lie end to end in B, least significant first. */
export function addUnpacked(words: i32, bits: i32): void {
  const low = u64.MAX_VALUE >>> (64 - bits);
  for (let at = A, end = A + 4 * words, bit = 8 * B; at < end; at += 4, bit += bits) {
    // From the byte where a word begins, 7 + 32 bits hold it.
    const word = (load<u64>(bit >>> 3) >>> (bit & 7)) & low;
    store<u32>(at, load<u32>(at) + (word as u32));
  }
}

/** The low `bits` bits of A's words end to end in B, and zeros after them to the next byte. */
export function pack(words: i32, bits: i32): void {
  const low = u64.MAX_VALUE >>> (64 - bits);
  let waiting: u64 = 0;
  for (let at = A, end = A + 4 * words, bit = 8 * B; at < end; at += 4) {
    const held = bit & 7;
    waiting |= ((load<u32>(at) as u64) & low) << held;
    store<u64>(bit >>> 3, waiting);
    bit += bits;
    // Whole bytes are written; the rest of the last one waits for the next word.
    waiting >>>= (held + bits) & 56;
  }
}
