import type { DType } from "./ir.ts";

/** The least and the greatest level of a quantised type; undefined for a type that holds no levels. */
export function levelsOf(dtype: DType): readonly [number, number] | undefined {
  if (dtype === "uint8") return [0, 255];
  return dtype === "int8" ? [-128, 127] : undefined;
}

/** Ties to even: Math.round sends them up. */
export function roundEven(x: number): number {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2 === 0 ? 0 : 1) : Math.round(x);
}

/** How scales lie over a tensor: one for all, one per index of an axis, or one per block of it. */
export type Spread = { readonly kind: "one" | "axis" | "block"; readonly block: number };

/**
 * Which of the three a scale's shape means (QuantizeLinear, since version 21): a vector as long as the axis
 * is per index, anything else has the tensor's rank and fewer entries along the axis.
 */
export function spreadOf(scale: readonly number[], shape: readonly number[], axis: number): Spread {
  if (scale.every((size) => size === 1)) return { kind: "one", block: 1 };
  if (scale.length === 1 && scale[0] === shape[axis]) return { kind: "axis", block: 1 };
  return { kind: "block", block: Math.ceil(shape[axis]! / scale[axis]!) };
}

/** The `i`-th of the values that `bits` (2, 4 or 8) wide fields of bytes hold, lowest bits first. */
export function packed(bytes: ArrayLike<number>, bits: number, i: number): number {
  const per = 8 / bits;
  return (bytes[Math.floor(i / per)]! >> (bits * (i % per))) & ((1 << bits) - 1);
}
