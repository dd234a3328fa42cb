import type { Site } from "../site.ts";
import { broadcast, demandSize, one, sameDtype } from "./rule.ts";

/** numpy.matmul: vectors gain a dimension that is dropped again, leading dimensions broadcast. */
export function MatMul(at: Site) {
  const dtype = sameDtype(at, [0, 1]);
  const [left, right] = [at.shape(0), at.shape(1)];
  if (left.length === 0 || right.length === 0)
    throw at.fault("bad-input", "input", { expected: "rank 1 or more" });
  const a = left.length === 1 ? [1, ...left] : left;
  const b = right.length === 1 ? [...right, 1] : right;
  demandSize(at, "rows of input 1", { expected: a.at(-1)!, got: b.at(-2)! });
  const shape = broadcast(at, [a.slice(0, -2), b.slice(0, -2)]);
  if (left.length > 1) shape.push(a.at(-2)!);
  if (right.length > 1) shape.push(b.at(-1)!);
  return one(dtype, shape);
}

export function Gemm(at: Site) {
  const a = matrix(at, 0, at.int("transA", 0));
  const b = matrix(at, 1, at.int("transB", 0));
  demandSize(at, "inner size of input 1", { expected: a[1], got: b[0] });
  const shape = [a[0], b[1]];
  if (at.has(2) && `${broadcast(at, [shape, at.shape(2)])}` !== `${shape}`)
    throw at.fault("bad-input", "input 2", {
      expected: `a shape that broadcasts to [${shape}]`,
      got: `[${at.shape(2)}]`,
    });
  return one(sameDtype(at, at.has(2) ? [0, 1, 2] : [0, 1]), shape);
}

function matrix(at: Site, index: number, transposed: number): [number, number] {
  const shape = at.shape(index);
  demandSize(at, `rank of input ${index}`, { expected: 2, got: shape.length });
  return transposed ? [shape[1]!, shape[0]!] : [shape[0]!, shape[1]!];
}
