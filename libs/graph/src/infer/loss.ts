import type { Site } from "../site.ts";
import { demandSize, one } from "./rule.ts";

/** A scalar, or one loss per label where nothing is reduced (NegativeLogLikelihoodLoss, since version 12). */
export function NegativeLogLikelihoodLoss(at: Site) {
  const [n, classes, ...rest] = at.shape(0);
  demandSize(at, "rank of the labels", { expected: rest.length + 1, got: at.shape(1).length });
  for (const [axis, size] of [n ?? 0, ...rest].entries())
    demandSize(at, `axis ${axis} of the labels`, { expected: size, got: at.shape(1)[axis]! });
  if (at.has(2)) demandSize(at, "weights", { expected: classes ?? 0, got: at.shape(2)[0] ?? 0 });
  return one(at.dtype(0), at.string("reduction", "mean") === "none" ? at.shape(1) : []);
}

/** Beside the loss, the log probabilities (SoftmaxCrossEntropyLoss, since version 12). */
export function SoftmaxCrossEntropyLoss(at: Site) {
  return [...NegativeLogLikelihoodLoss(at), at.static(0)];
}
