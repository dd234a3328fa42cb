// For neighbours: import the file, not this index.
export { addKeystream, SLICE_WORDS } from "./chacha20.ts";
export { packBits, packedBytes, unpackBits } from "./pack.ts";
export { addInto } from "./ring.ts";
