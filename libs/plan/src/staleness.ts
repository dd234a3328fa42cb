import { Fault } from "@tutti/foundation/fault";
import * as v from "valibot";

/**
 * Semi-synchronous rounds: a device that still trains when its round closes may bring that update to a later
 * one, where it weighs less the later it comes.
 */
export const staleness = v.strictObject({
  /** Most rounds that an update may be late by. */
  max: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(16)),
  weight: v.optional(
    v.union([
      v.picklist(["polynomial", "constant"]),
      v.strictObject({
        name: v.literal("polynomial"),
        a: v.pipe(v.number(), v.gtValue(0), v.maxValue(10)),
      }),
    ]),
    "polynomial",
  ),
});

type Staleness = v.InferOutput<typeof staleness>;

/** What FedBuff divides by is √(1 + late): Nguyen et al. 2022, arXiv 2106.06639. */
const USUAL_EXPONENT = 0.5;

/**
 * What an update's weight is multiplied by when it joins a round `late` rounds after the one that it was
 * trained for: s(t − τ) of FedAsync (Xie et al. 2019, arXiv 1903.03934), constant, or polynomial:
 * (1 + late)^−a. It is 1 for an update that is not late.
 */
export function lateFactor({ weight }: Pick<Staleness, "weight">, late: number): number {
  if (weight === "constant") return 1;
  return (1 + late) ** -(typeof weight === "object" ? weight.a : USUAL_EXPONENT);
}

/** @throws Fault("bad-input") for a plan whose late updates could not be told from others, or never fit. */
export function checkStaleness(
  what: string,
  plan: { readonly staleness?: Staleness; readonly adapter: { method: string }; readonly privacy?: unknown },
): void {
  const { max } = plan.staleness ?? { max: Number.POSITIVE_INFINITY };
  const bad = (expected: string, got: string) => new Fault("bad-input", what, { expected, got });
  // Under noise every device weighs the same, so a late update could not weigh less.
  if (plan.staleness && plan.privacy) throw bad("none in a run with privacy", "both");
  // B moves in even rounds and A in odd ones, so an update fits again two rounds later at the earliest.
  if (plan.adapter.method === "rolora" && max < 2)
    throw bad("max ≥ 2 with adapter.method rolora, whose tensors alternate", `${max}`);
}
