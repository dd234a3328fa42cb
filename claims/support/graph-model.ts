import { seededRandom } from "@tutti/foundation/random";
import type { Graph } from "@tutti/graph/ir";
import { transformer } from "@tutti/graph/make/transformer";

/** What speed and memory are measured on, as one sentence for the record. */
export const MODEL =
  "encoder of 6 layers, width 384, 12 heads, feed-forward 1536, vocabulary 8000 (13.9 million weights, " +
  "56 MB); batch 8 of 64 tokens; LoRA r = 8 on query and value, classification head (2 classes) " +
  "trained whole";

export const SIZES = { layers: 6, width: 384, heads: 12, vocabulary: 8000, feedForward: 1536 } as const;
export const [BATCH, LENGTH] = [8, 64] as const;
export const ADAPTER = {
  rank: 8,
  alpha: 16,
  targets: ["attention.query", "attention.value"],
  save: ["classifier"],
} as const;

/** A BERT-shaped encoder with random weights: speed does not hang on what they are. */
export function encoder(): Graph {
  return transformer({
    ...{ ...SIZES, kind: "encoder", length: 128, head: { classes: 2 } },
    random: seededRandom("claims/graph"),
  });
}
