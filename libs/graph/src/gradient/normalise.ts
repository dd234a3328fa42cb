import { type Ops, range } from "../ops.ts";
import { type Adjoint, type GradientRule, once } from "./rule.ts";

/** dx = y·(dy − Σ dy·y). */
export const Softmax: GradientRule = (site, ops) => [
  () => {
    const y = withoutNaN(site, ops);
    const dot = ops.sum(ops.mul(site.dy, y), softmaxAxes(site), true);
    return ops.mul(y, ops.sub(site.dy, dot));
  },
];

/** dx = dy − e^y·Σ dy; a masked entry has y = −inf and e^y = 0, with nothing undefined on the way. */
export const LogSoftmax: GradientRule = (site, ops) => [
  () => {
    const total = ops.sum(site.dy, softmaxAxes(site), true);
    return ops.sub(site.dy, ops.mul(ops.op("Exp", [withoutNaN(site, ops)]), total));
  },
];

/**
 * A row that is masked throughout (all −inf) makes y NaN. Exporters hide it behind IsNaN and Where, whose
 * rule sends dy = 0 here; but 0·NaN is NaN, so where such a reader stands y is cleaned first. Elsewhere a
 * NaN is in the loss anyway.
 */
function withoutNaN({ readers, y }: Adjoint, ops: Ops): string {
  if (!readers.has("IsNaN") && !readers.has("Where")) return y;
  return ops.where(ops.op("IsNaN", [y]), ops.number(0, y), y);
}

/** One axis; `differentiate` has raised graphs in which it was several (raise.ts). */
function softmaxAxes(site: Adjoint): readonly number[] {
  return [site.axis(site.int("axis", -1), site.shape(0).length)];
}

/**
 * With x̂ = (x − μ)/σ and g = dy·scale: dx = (g − mean g − x̂·mean(g·x̂))/σ (Ba et al. 2016; means over the
 * normalised axes). μ and σ are computed again: the operator's own optional outputs for them are not in
 * every engine.
 */
export const LayerNormalization: GradientRule = (site, ops) => {
  const x = site.input(0);
  const axes = range(site.shape(0).length).slice(site.axis(site.int("axis", -1), site.shape(0).length));
  const moments = { x, axes, epsilon: site.float("epsilon", 1e-5) };
  const state = once(() => standardise(ops, moments));
  return [
    () => {
      const { unit, inverse } = state();
      const g = ops.mul(site.dy, site.input(1));
      const lean = ops.mul(unit, ops.mean(ops.mul(g, unit), axes, true));
      return ops.mul(ops.sub(ops.sub(g, ops.mean(g, axes, true)), lean), inverse);
    },
    () => ops.unbroadcast(ops.mul(site.dy, state().unit), site.shape(1)),
    () => ops.unbroadcast(site.dy, site.shape(2)),
  ];
};

/** Each channel of each example by itself; scale and bias are per channel. */
export const InstanceNormalization: GradientRule = (site, ops) => {
  const rank = site.shape(0).length;
  const axes = range(rank).slice(2);
  const moments = { x: site.input(0), axes, epsilon: site.float("epsilon", 1e-5) };
  const state = once(() => standardise(ops, moments));
  const perChannel = (x: string) => ops.sum(x, [0, ...axes]);
  return [
    () => {
      const { unit, inverse } = state();
      const g = ops.mul(site.dy, channels(ops, site.input(1), rank));
      const lean = ops.mul(unit, ops.mean(ops.mul(g, unit), axes, true));
      return ops.mul(ops.sub(ops.sub(g, ops.mean(g, axes, true)), lean), inverse);
    },
    () => perChannel(ops.mul(site.dy, state().unit)),
    () => perChannel(site.dy),
  ];
};

/** In inference a fixed affine map per channel: y = scale·(x − mean)/√(var + ε) + bias. */
export const BatchNormalization: GradientRule = (site, ops) => {
  if (site.int("training_mode", 0) !== 0) {
    throw site.fault("unsupported", "training_mode", {
      expected: "0: inference with stored statistics",
      got: "1",
    });
  }
  const rank = site.shape(0).length;
  const axes = range(rank).filter((axis) => axis !== 1);
  const inverse = once(() => inverseRoot(ops, site.input(4), site.float("epsilon", 1e-5)));
  return [
    () => ops.mul(site.dy, channels(ops, ops.mul(site.input(1), inverse()), rank)),
    () => {
      const centred = ops.sub(site.input(0), channels(ops, site.input(3), rank));
      return ops.mul(ops.sum(ops.mul(site.dy, centred), axes), inverse());
    },
    () => ops.sum(site.dy, axes),
    () => ops.op("Neg", [ops.mul(ops.sum(site.dy, axes), ops.mul(site.input(1), inverse()))]),
    () => {
      // d(v + ε)^−½ = −½·(v + ε)^−3/2.
      const centred = ops.sub(site.input(0), channels(ops, site.input(3), rank));
      const total = ops.mul(ops.sum(ops.mul(site.dy, centred), axes), site.input(1));
      const cube = ops.mul(inverse(), ops.mul(inverse(), inverse()));
      return ops.scale(ops.mul(total, cube), -0.5);
    },
  ];
};

type Moments = { readonly x: string; readonly axes: readonly number[]; readonly epsilon: number };
type Standardised = { readonly unit: string; readonly inverse: string };

/** x̂ = (x − μ)·(1/σ) and 1/σ, both broadcastable to x. */
function standardise(ops: Ops, { x, axes, epsilon }: Moments): Standardised {
  const centred = ops.sub(x, ops.mean(x, axes, true));
  const inverse = inverseRoot(ops, ops.mean(ops.mul(centred, centred), axes, true), epsilon);
  return { unit: ops.mul(centred, inverse), inverse };
}

/** 1/√(v + ε). */
function inverseRoot(ops: Ops, variance: string, epsilon: number): string {
  return ops.op("Reciprocal", [ops.op("Sqrt", [ops.add(variance, ops.number(epsilon, variance))])]);
}

/** A vector over channels as [C, 1, …, 1], which broadcasts to [N, C, …]. */
function channels(ops: Ops, x: string, rank: number): string {
  return ops.reshape(x, [ops.shape(x)[0]!, ...Array<number>(rank - 2).fill(1)]);
}
