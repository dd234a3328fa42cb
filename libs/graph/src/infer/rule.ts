import type { DType, Static } from "../ir.ts";
import type { Site } from "../site.ts";

/**
 * From what stands at a node to the dtype and shape of each of its outputs. Constants may be read (shapes,
 * axes), run-time values may not; a rule that needs one which is not constant faults by name through its
 * Site.
 */
export type Rule = (at: Site) => readonly Static[];

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

function misfit(at: Site, shapes: readonly (readonly number[])[]) {
  const got = shapes.map((shape) => `[${shape}]`).join(" and ");
  return at.fault("bad-input", "shapes", { expected: "shapes that broadcast", got });
}
