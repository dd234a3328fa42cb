import { type DType, type Static, sizeOf } from "../ir.ts";
import type { Site } from "../site.ts";

/**
 * From what stands at a node to the dtype and shape of each of its outputs. Constants may be read (shapes,
 * axes), run-time values may not; a rule that needs one which is not constant faults by name through its
 * Site.
 */
export type InferRule = (at: Site) => readonly Static[];

/** One output. */
export function one(dtype: DType, shape: readonly number[]): readonly Static[] {
  return [{ dtype, shape }];
}

/** The output is like the first input. */
export function same(at: Site): readonly Static[] {
  return [at.static(0)];
}

/** Multidirectional broadcasting (ONNX, docs/Broadcasting.md): align at the end, 1 stretches. */
export function broadcast(at: Site, shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    let size = 1;
    for (const shape of shapes) {
      const own = shape[axis - rank + shape.length] ?? 1;
      if (own === 1 || own === size) continue;
      if (size !== 1) throw misfit(at, shapes);
      size = own;
    }
    return size;
  });
}

/** All the given inputs must have one dtype, which is returned; ONNX never promotes, unlike numpy. */
export function sameDtype(at: Site, indices: readonly number[]): DType {
  const dtype = at.dtype(indices[0]!);
  for (const index of indices) {
    if (at.dtype(index) === dtype) continue;
    throw at.fault("bad-input", `input ${index}`, { expected: dtype, got: at.dtype(index) });
  }
  return dtype;
}

/** Demands a size, naming what it belongs to. */
export function demandSize(at: Site, what: string, pair: { expected: number; got: number }): void {
  if (pair.expected === pair.got) return;
  throw at.fault("bad-input", what, { expected: `${pair.expected}`, got: `${pair.got}` });
}

/** Demands a rank, or one of a range of them. */
export function demandRank(at: Site, index: number, least: number, most = least): void {
  const rank = at.shape(index).length;
  if (rank >= least && rank <= most) return;
  const expected = least === most ? `${least}` : most < 100 ? `${least} to ${most}` : `${least} or more`;
  throw at.fault("bad-input", `rank of input ${index}`, { expected, got: `${rank}` });
}

/** Demands that an input, where it is there, broadcasts to a shape without widening it. */
export function demandFits(at: Site, index: number, shape: readonly number[]): void {
  if (!at.has(index) || `${broadcast(at, [shape, at.shape(index)])}` === `${shape}`) return;
  const [expected, got] = [`one that broadcasts to [${shape}]`, `[${at.shape(index)}]`];
  throw at.fault("bad-input", `input ${index}`, { expected, got });
}

/** Demands that an input, where it is there, has this shape. */
export function demandShape(at: Site, index: number, shape: readonly number[]): void {
  if (!at.has(index) || `${at.shape(index)}` === `${shape}`) return;
  throw at.fault("bad-input", `input ${index}`, { expected: `[${shape}]`, got: `[${at.shape(index)}]` });
}

/** Demands that an input, where it is there, is one value, be it as a scalar or as a vector. */
export function demandSingle(at: Site, index: number): void {
  if (!at.has(index) || (at.shape(index).length <= 1 && sizeOf(at.shape(index)) === 1)) return;
  throw at.fault("bad-input", `input ${index}`, { expected: "one value", got: `[${at.shape(index)}]` });
}

function misfit(at: Site, shapes: readonly (readonly number[])[]) {
  const got = shapes.map((shape) => `[${shape}]`).join(" and ");
  return at.fault("bad-input", "shapes", { expected: "shapes that broadcast", got });
}
