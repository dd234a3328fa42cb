import { Fault } from "@tutti/foundation/fault";
import { l2Norm } from "@tutti/update/clip";

/*
 * Adaptive clipping (Andrew, Thakkar, McMahan and Ramaswamy 2021): the clip norm follows a quantile of the
 * devices' update norms. Each device says one bit, whether its update was short enough; the mean of the bits
 * comes out of the same noised sum as the update (a slot of bound 1 in vector.ts), so it costs no privacy of
 * its own.
 */

export type ClipRule = {
  /** γ: the share of devices whose update should be short enough, in (0, 1). The paper's choice is 0.5. */
  readonly quantile: number;
  /** η: how quickly the norm moves, per round, as the exponent of e. The paper's choice is 0.2. */
  readonly rate: number;
  /** The norm stays within these, whatever noise says. */
  readonly least: number;
  readonly most: number;
};

/** The device's bit b: 1 where ‖update‖₂ ≤ clip, else 0. A vector with a NaN in it is not short enough. */
export function withinClip(update: Float32Array, clip: number): 0 | 1 {
  return l2Norm(update) <= clip ? 1 : 0;
}

/**
 * The next round's norm, C·exp(−η(b̄ − γ)) (section 2.2, the geometric update). `fraction` is the noised mean
 * of the bits; beyond 0 and 1, where only noise can put it, it is cut.
 * @throws Fault("bad-input") for a rule or values that are none.
 */
export function nextClip(clip: number, fraction: number, rule: ClipRule): number {
  const { quantile, rate, least, most } = rule;
  if (!(quantile > 0 && quantile < 1)) throw wrong("quantile", "above 0 and below 1", quantile);
  if (!(rate >= 0 && Number.isFinite(rate))) throw wrong("rate", "at least 0", rate);
  if (!(least > 0 && least <= most && Number.isFinite(most)))
    throw wrong("least clip norm", `above 0 and at most ${most}`, least);
  if (!(clip > 0 && Number.isFinite(clip))) throw wrong("clip norm", "a positive number", clip);
  if (Number.isNaN(fraction)) throw wrong("fraction of short updates", "a number", fraction);
  const cut = Math.min(1, Math.max(0, fraction));
  return Math.min(most, Math.max(least, clip * Math.exp(-rate * (cut - quantile))));
}

function wrong(what: string, expected: string, got: number): Fault {
  return new Fault("bad-input", what, { expected, got: `${got}` });
}
