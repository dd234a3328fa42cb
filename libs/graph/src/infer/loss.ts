import type { Site } from "../site.ts";
import { demandRank, demandShape, demandSize, one } from "./rule.ts";

/** A scalar, or one loss per label where nothing is reduced (NegativeLogLikelihoodLoss, since version 12). */
export function NegativeLogLikelihoodLoss(at: Site) {
  demandRank(at, 0, 2, Number.POSITIVE_INFINITY);
  const [n, classes, ...rest] = at.shape(0) as [number, number, ...number[]];
  demandSize(at, "rank of the labels", { expected: rest.length + 1, got: at.shape(1).length });
  for (const [axis, size] of [n, ...rest].entries())
    demandSize(at, `axis ${axis} of the labels`, { expected: size, got: at.shape(1)[axis]! });
  demandShape(at, 2, [classes]);
  return one(at.dtype(0), at.string("reduction", "mean") === "none" ? at.shape(1) : []);
}

/** Beside the loss, the log probabilities (SoftmaxCrossEntropyLoss, since version 12). */
export function SoftmaxCrossEntropyLoss(at: Site) {
  return [...NegativeLogLikelihoodLoss(at), at.static(0)];
}
