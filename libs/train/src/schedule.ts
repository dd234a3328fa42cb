import { checkInteger } from "@tutti/foundation/check";

/** A learning rate as a function of the step; the first step is 0. Beyond its end a schedule stays. */
export type Schedule = (step: number) => number;

/** From rate `from` to rate `to` (0 by default) within `steps` optimiser steps. */
export type Course = { readonly from: number; readonly to?: number; readonly steps: number };

/** Straight from `from` to `to` (0 by default), which is reached after `steps` steps. */
export function linear({ from, to = 0, steps }: Course): Schedule {
  const end = checkInteger("linear steps", steps, [1, MOST]);
  return (step) => from + (to - from) * Math.min(1, step / end);
}

/** Half a cosine from `from` to `to` (Loshchilov & Hutter 2017, equation 5, one cycle). */
export function cosine({ from, to = 0, steps }: Course): Schedule {
  const end = checkInteger("cosine steps", steps, [1, MOST]);
  return (step) => to + ((from - to) * (1 + Math.cos(Math.PI * Math.min(1, step / end)))) / 2;
}

/** `rate`, times `factor` after each `every` steps. */
export function stepwise(options: { rate: number; factor: number; every: number }): Schedule {
  const every = checkInteger("stepwise every", options.every, [1, MOST]);
  return (step) => options.rate * options.factor ** Math.floor(step / every);
}

/**
 * `steps` steps that rise in equal parts to where `after` begins (Goyal et al. 2017, section 2.2), then
 * `after`. The first step already moves.
 */
export function warmUp(steps: number, after: Schedule | number): Schedule {
  const rise = checkInteger("warm-up steps", steps, [1, MOST]);
  const then: Schedule = typeof after === "number" ? () => after : after;
  return (step) => (step < rise ? (then(0) * (step + 1)) / (rise + 1) : then(step - rise));
}

const MOST = 2 ** 31;
