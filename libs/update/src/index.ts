// For neighbours: import the file, not this index.
export { clip } from "./clip.ts";
export { flatten, type Layout, layoutOf, type TensorSpec, unflatten } from "./layout.ts";
export { dequantise, type Mean, quantise, type Scale, steps, type Vector, wordsOf } from "./quantise.ts";
