import { assert } from "@tutti/foundation/check";
import type { Schedule } from "./schedule.ts";

/**
 * An optimiser is a pair of functions over one flat vector: `begin` makes its state for `length` coordinates,
 * `step` gives new parameters and the next state. Neither changes its arguments.
 */
export type Optimiser<State> = {
  begin(length: number): State;
  step(params: Float32Array, gradient: Float32Array, state: State): [Float32Array, State];
};

/** What is done to a gradient before the optimiser sees it. */
export type GradientRule<State> = {
  begin(length: number): State;
  apply(gradient: Float32Array, params: Float32Array, state: State): [Float32Array, State];
};

/** A rate, or one that changes with the step. */
export type Rate = number | Schedule;

/** Plain gradient descent by default: `momentum` 0, `nesterov` false, `weightDecay` 0. */
export type SgdOptions = {
  readonly learningRate: Rate;
  readonly momentum?: number;
  readonly nesterov?: boolean;
  /** Added to the gradient as weightDecay · params (L2). */
  readonly weightDecay?: number;
};

type SgdState = { readonly step: number; readonly velocity: Float32Array | null };

/**
 * v ← m·v + g; p ← p − lr·v, or p − lr·(g + m·v) with Nesterov (Sutskever et al. 2013, as torch writes it).
 */
export function sgd(options: SgdOptions): Optimiser<SgdState> {
  const { learningRate, momentum = 0, nesterov = false, weightDecay = 0 } = options;
  return {
    begin: (length) => ({ step: 0, velocity: momentum === 0 ? null : new Float32Array(length) }),
    step: (params, gradient, { step, velocity }) => {
      sameLength(params, gradient);
      const rate = rateAt(learningRate, step);
      const decayed = gradient.map((g, i) => g + weightDecay * params[i]!);
      const next = velocity?.map((v, i) => momentum * v + decayed[i]!) ?? null;
      const ahead = (i: number) =>
        next === null ? decayed[i]! : nesterov ? decayed[i]! + momentum * next[i]! : next[i]!;
      return [params.map((p, i) => p - rate * ahead(i)), { step: step + 1, velocity: next }];
    },
  };
}

/** By default, as in torch: `beta1` 0.9, `beta2` 0.999, `epsilon` 1e-8, `weightDecay` 0.01. */
export type AdamWOptions = {
  readonly learningRate: Rate;
  readonly beta1?: number;
  readonly beta2?: number;
  readonly epsilon?: number;
  readonly weightDecay?: number;
};

type AdamWState = { readonly step: number; readonly m: Float32Array; readonly v: Float32Array };

/** Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2); defaults as in torch. */
export function adamW(options: AdamWOptions): Optimiser<AdamWState> {
  const { learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01 } = options;
  return {
    begin: (length) => ({ step: 0, m: new Float32Array(length), v: new Float32Array(length) }),
    step: (params, gradient, state) => {
      sameLength(params, gradient);
      const step = state.step + 1;
      const rate = rateAt(learningRate, state.step);
      const m = state.m.map((m, i) => beta1 * m + (1 - beta1) * gradient[i]!);
      const v = state.v.map((v, i) => beta2 * v + (1 - beta2) * gradient[i]! ** 2);
      const [bias1, bias2] = [1 - beta1 ** step, 1 - beta2 ** step];
      const next = params.map((p, i) => {
        const adapted = m[i]! / bias1 / (Math.sqrt(v[i]! / bias2) + epsilon);
        return p - rate * (adapted + weightDecay * p);
      });
      return [next, { step, m, v }];
    },
  };
}

export type AdagradOptions = { readonly learningRate: Rate; readonly epsilon?: number };

type AdagradState = { readonly step: number; readonly squares: Float32Array };

/** s ← s + g²; p ← p − lr·g/(√s + ε) (Duchi et al. 2011, figure 1 with a diagonal; ε as torch has it). */
export function adagrad({ learningRate, epsilon = 1e-10 }: AdagradOptions): Optimiser<AdagradState> {
  return {
    begin: (length) => ({ step: 0, squares: new Float32Array(length) }),
    step: (params, gradient, state) => {
      sameLength(params, gradient);
      const rate = rateAt(learningRate, state.step);
      const squares = state.squares.map((s, i) => s + gradient[i]! ** 2);
      const next = params.map((p, i) => p - (rate * gradient[i]!) / (Math.sqrt(squares[i]!) + epsilon));
      return [next, { step: state.step + 1, squares }];
    },
  };
}

/** Cuts every coordinate to −most…most, each by itself: the gradient's direction may change. */
export function clipValue(most: number): GradientRule<null> {
  return {
    begin: () => null,
    apply: (gradient) => [gradient.map((g) => Math.min(most, Math.max(-most, g))), null],
  };
}

/** Scales the gradient down to L2 norm `maxNorm` where it is longer (Pascanu et al. 2013, algorithm 1). */
export function clipNorm(maxNorm: number): GradientRule<null> {
  return {
    begin: () => null,
    apply: (gradient) => {
      // Summed in float64: the squares of a million float32 coordinates lose the small ones otherwise.
      const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
      const factor = norm > maxNorm ? maxNorm / norm : 1;
      return [factor === 1 ? gradient : gradient.map((g) => g * factor), null];
    },
  };
}

/**
 * FedProx (Li et al. 2020, equation 2): adds μ·(w − w₀), w₀ being the parameters at the first step, so that a
 * device with unusual data does not wander off from the round's model.
 */
export function proximal(mu: number): GradientRule<Float32Array | null> {
  return {
    begin: () => null,
    apply: (gradient, params, anchor) => {
      const from = anchor ?? params.slice();
      return [gradient.map((g, i) => g + mu * (params[i]! - from[i]!)), from];
    },
  };
}

/** The states of the rules, in order, and of the optimiser. */
type Chained<States, State> = { readonly rules: States; readonly optimiser: State };
type Rules<States> = { readonly [K in keyof States]: GradientRule<States[K]> };

/** An optimiser that sees the gradient after each of `rules`, in order. */
export function chain<States extends readonly unknown[], State>(
  rules: readonly [...Rules<States>],
  optimiser: Optimiser<State>,
): Optimiser<Chained<States, State>> {
  // Each state goes back only to the rule that made it, so inside they need no types of their own.
  const steps = rules as readonly GradientRule<unknown>[];
  return {
    begin: (length) => ({
      rules: steps.map((rule) => rule.begin(length)) as readonly unknown[] as States,
      optimiser: optimiser.begin(length),
    }),
    step: (params, gradient, state) => {
      let changed = gradient;
      const held = steps.map((rule, i) => {
        const [next, kept] = rule.apply(changed, params, state.rules[i]);
        changed = next;
        return kept;
      });
      const [next, kept] = optimiser.step(params, changed, state.optimiser);
      return [next, { rules: held as readonly unknown[] as States, optimiser: kept }];
    },
  };
}

function rateAt(rate: Rate, step: number): number {
  return typeof rate === "number" ? rate : rate(step);
}

function sameLength(params: Float32Array, gradient: Float32Array): void {
  assert(params.length === gradient.length, `${gradient.length} gradients for ${params.length} parameters`);
}
