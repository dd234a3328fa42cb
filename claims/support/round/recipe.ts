import type { Data } from "@tutti/client-sdk/examples";
import { examplesFromArrays } from "@tutti/client-sdk/examples";
import { type SeededRandom, seededRandom } from "@tutti/foundation/random";
import { float32 } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { int64 } from "@tutti/graph/tensor";
import { write } from "@tutti/graph/write";
import { parseRunFile, type RunFileInput } from "@tutti/plan/plan";
import type { Examples } from "@tutti/train/batches";
import { type PreparedRun, resolveRun } from "tutti/prepare";

/** Rows that a site trains on, and rows that it holds out. */
export type Rows = { readonly train: number; readonly heldOut: number };

const [FEATURES, CLASSES] = [4, 3];

/** One round of training on a small perceptron, and one that evaluates what came of it. */
export function smallRun(
  change: Omit<Partial<RunFileInput>, "seed"> & { name: string; seed: number },
): PreparedRun {
  const random = seededRandom("claims/round");
  const base = write(mlp({ inputs: FEATURES, hidden: [32], outputs: CLASSES, random }));
  const file = parseRunFile({
    base: "base.onnx",
    adapter: { method: "fedit", rank: 4, alpha: 8, targets: "all-linear" },
    loss: "softmax-cross-entropy",
    train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 8, batchSize: 16 },
    rounds: 1,
    cohort: { min: 3, max: 4 },
    ...change,
  });
  return resolveRun(file, base);
}

/** Clouds in four dimensions, one per class, different at every site; the same at every call. */
export function cloudsAt(site: string, { train, heldOut }: Rows): Data {
  const split = {
    train: clouds(train, seededRandom(`claims/round/${site}/train`)),
    heldOut: clouds(heldOut, seededRandom(`claims/round/${site}/held out`)),
  };
  return () => split;
}

function clouds(count: number, random: SeededRandom): Examples {
  const shift = random.uniform();
  const labels = Array.from({ length: count }, () => random.below(CLASSES));
  const values = labels.flatMap((label) =>
    Array.from({ length: FEATURES }, (_, axis) => (axis === label ? 2 : shift) + random.normal() * 0.5),
  );
  return examplesFromArrays({
    inputs: { x: float32([count, FEATURES], Float32Array.from(values)) },
    label: int64(labels),
  });
}
