// The whole memory, laid out by hand: a key, and two areas of a piece each. JavaScript reads these globals;
// nothing is allocated and nothing grows (MEMORY_PAGES of tools/kernels.mjs).

/** The key of the stream that is being added, 32 bytes, and then its nonce, 12. */
export const KEY: i32 = 0;
/** Words of the longest piece, 64 KiB of them. */
export const PIECE_WORDS: i32 = 16384;
/** After each area, room that the last step of a loop may run over: four blocks of keystream. */
const SPARE_BYTES: i32 = 256;

/** The piece that is worked on, in place. */
export const A: i32 = 64;
/** What is added to it or made of it: the other vector, packed bytes, uniform bits. */
export const B: i32 = A + 4 * PIECE_WORDS + SPARE_BYTES;
export const END: i32 = B + 4 * PIECE_WORDS + SPARE_BYTES;
