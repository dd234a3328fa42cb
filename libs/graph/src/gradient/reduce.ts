import { axisOf, type Ops, range } from "../ops.ts";
import type { Adjoint, GradientRule } from "./rule.ts";

/** The axes a reduction goes over, and the shape of its result as if it had kept them with size 1. */
type Reduced = {
  readonly x: string;
  readonly shape: readonly number[];
  readonly kept: readonly number[];
  readonly count: number;
};

/** Axes are an attribute or, from opset 13 (ReduceSum) and 18 (the others), an input; none means all. */
function reducedBy(site: Adjoint, ops: Ops): Reduced | undefined {
  const x = site.input(0);
  const shape = ops.shape(x);
  const given = site.list("axes", 1) ?? [];
  if (given.length === 0 && site.int("noop_with_empty_axes", 0) === 1) return undefined;
  const axes = new Set(
    given.length === 0 ? range(shape.length) : given.map((axis) => axisOf(axis, shape.length)),
  );
  const kept = shape.map((size, axis) => (axes.has(axis) ? 1 : size));
  return {
    x,
    shape,
    kept,
    count: shape.reduce((product, size, axis) => product * (axes.has(axis) ? size : 1), 1),
  };
}

/** A rule from a function that gets dy and y with the reduced axes back as size 1, so they broadcast to x. */
function reduction(
  derive: (ops: Ops, dy: string, at: Reduced & { readonly y: string }) => string,
): GradientRule {
  return (site, ops) => [
    () => {
      const reduced = reducedBy(site, ops);
      if (!reduced) return site.dy;
      const back = (name: string) => ops.reshape(name, reduced.kept);
      return ops.expand(derive(ops, back(site.dy), { ...reduced, y: back(site.y) }), reduced.shape);
    },
  ];
}

export const ReduceSum: GradientRule = reduction((_ops, dy) => dy);
export const ReduceMean: GradientRule = reduction((ops, dy, { count }) => ops.scale(dy, 1 / count));
export const ReduceSumSquare: GradientRule = reduction((ops, dy, { x }) => ops.mul(ops.scale(dy, 2), x));
export const ReduceL1: GradientRule = reduction((ops, dy, { x }) => ops.mul(dy, ops.op("Sign", [x])));

/** e^(x − y). Where every x is −inf so is y, and the slope is 0 (as torch), not e^(−inf + inf). */
export const ReduceLogSumExp: GradientRule = reduction((ops, dy, { x, y }) => {
  const finite = ops.gate(ops.op("Greater", [y, ops.number(Number.NEGATIVE_INFINITY, y)]), y);
  return ops.mul(dy, ops.op("Exp", [ops.sub(x, finite)]));
});

/** y = ln Σx, so 1/Σx = e^−y. */
export const ReduceLogSum: GradientRule = reduction((ops, dy, { y }) =>
  ops.mul(dy, ops.op("Exp", [ops.op("Neg", [y])])),
);

/** The product of the others: y over x, unless zeros are among them. They are counted and left out. */
export const ReduceProd: GradientRule = reduction((ops, dy, { x, shape, kept }) => {
  const axes = range(shape.length).filter((axis) => shape[axis] !== kept[axis]);
  const [zero, one] = [ops.number(0, x), ops.number(1, x)];
  const isZero = ops.op("Equal", [x, zero]);
  const marks = ops.where(isZero, one, zero);
  const solid = ops.where(isZero, one, x);
  const others = ops.sub(ops.sum(marks, axes, true), marks);
  const whole = axes.length === 0 ? solid : ops.op("ReduceProd", [solid], { axes, keepdims: 1 });
  return ops.gate(ops.op("Equal", [others, zero]), ops.div(ops.mul(dy, whole), solid));
});

/** x / ‖x‖, and 0 at the origin, where the norm has no slope. */
export const ReduceL2: GradientRule = reduction((ops, dy, { x, y }) => {
  const away = ops.op("Greater", [y, ops.number(0, y)]);
  return ops.mul(ops.gate(away, ops.div(dy, y)), x);
});

/** Values that tie for the extreme share dy evenly, as torch.amax does. */
const extreme = reduction((ops, dy, { x, y, shape, kept }) => {
  const mask = ops.op("Equal", [x, y]);
  const ones = ops.where(mask, ops.number(1, x), ops.number(0, x));
  const axes = range(shape.length).filter((axis) => shape[axis] !== kept[axis]);
  return ops.gate(mask, ops.div(dy, ops.sum(ones, axes, true)));
});
export const ReduceMax: GradientRule = extreme;
export const ReduceMin: GradientRule = extreme;
