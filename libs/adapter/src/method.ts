import { checkInteger, unreachable } from "@tutti/foundation/check";
import type { TensorSpec } from "@tutti/update/layout";
import { factorOf } from "./spec.ts";

/**
 * Federated LoRA methods whose round is linear in what the devices send, so that a secure sum suffices:
 * fedit (Zhang et al. 2023, arXiv 2305.05644), ffa (FFA-LoRA, Sun et al. 2024, arXiv 2403.12313) and
 * rolora (RoLoRA, Chen et al. 2024, arXiv 2409.02346).
 */
export type Method = "fedit" | "ffa" | "rolora";

/**
 * The tensors that train and travel in a round (counted from 0), in the order of `tensors`. Whole tensors
 * always do. rolora begins with B: B starts at zero, and while it is zero the gradient of A is zero.
 */
export function activeTensors(method: Method, round: number, tensors: readonly TensorSpec[]): TensorSpec[] {
  checkInteger("round", round, [0, Number.MAX_SAFE_INTEGER]);
  const resting = restingFactor(method, round);
  return tensors.filter(({ name }) => factorOf(name) !== resting);
}

function restingFactor(method: Method, round: number): "A" | "B" | "none" {
  switch (method) {
    case "fedit":
      return "none";
    case "ffa":
      return "A";
    case "rolora":
      return round % 2 === 0 ? "A" : "B";
    default:
      return unreachable(method);
  }
}
