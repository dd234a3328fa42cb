// For neighbours: import the file, not this index.
export { addKeystream, addKeystreams, type Keystream, SLICE_WORDS } from "./chacha20.ts";
export { walshHadamard } from "./hadamard.ts";
export { addPacked, packBits, packedBytes, unpackBits } from "./pack.ts";
export { type Rounding, roundWords } from "./quantise.ts";
export { addInto } from "./ring.ts";
