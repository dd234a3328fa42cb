import type { Site } from "../../site.ts";
import { broadcast, demandFits } from "../rule.ts";

export { SimplifiedLayerNormalization } from "../normalise.ts";

/** The normalised sum, mean and inverse deviation of each row, and the sum itself. */
export function SkipLayerNormalization(at: Site) {
  const [dtype, shape] = [at.dtype(0), at.shape(0)];
  // The skip may lack the batch, or have it with size 1; it never widens the input.
  if (`${broadcast(at, [shape, at.shape(1)])}` !== `${shape}`)
    throw at.fault("bad-input", "input 1 (skip)", { expected: `one that broadcasts to [${shape}]` });
  for (const index of [2, 3, 4]) demandFits(at, index, shape);
  const statistic = { dtype, shape: [...shape.slice(0, -1), 1] };
  return [{ dtype, shape }, statistic, statistic, { dtype, shape }];
}

/** As the above without a bias of the norm, so that the bias added before comes one place sooner. */
export const SkipSimplifiedLayerNormalization = SkipLayerNormalization;

/** `[batch, sequence, hidden]`, the masks' counts `[batch]`, and the sum before the norm. */
export function EmbedLayerNormalization(at: Site) {
  const [batch, sequence] = at.shape(0) as [number, number];
  const embedded = { dtype: at.dtype(2), shape: [batch, sequence, at.shape(2)[1]!] };
  return [embedded, { dtype: "int32" as const, shape: [batch] }, embedded];
}
