import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { subset } from "@tutti/client-sdk/examples";
import { seededRandom } from "@tutti/foundation/random";
import type { Tensor } from "@tutti/graph/ir";
import type { Plan } from "@tutti/plan/plan";
import type { Examples } from "@tutti/train/batches";
import { type PreparedRun, prepareRun } from "tutti/prepare";
import { CENTRES, prepareHeart, readCentres, rowsOf } from "../learn-heart.ts";
import { joined, rightOf } from "../learn-rows.ts";
import { readMnist } from "./mnist.ts";

/** Something to learn over 100 devices: training rows to deal among them, and rows that nobody trains on. */
export type LearningTask = {
  readonly name: "heart" | "mnist";
  readonly train: Examples;
  readonly test: Examples;
  /** The run without noise; the seed draws batches and first adapter. */
  prepare(seed: number): Promise<PreparedRun>;
  isRight(output: Tensor, label: Tensor, row: number): boolean;
};

export const DEVICES = 100;

/** Rows dealt to the devices by the seed, one at a time, so that counts differ by one at most. */
export function dealt({ train }: Pick<LearningTask, "train">, seed: number): readonly Examples[] {
  const order = shuffled(train.count, `deal/${seed}`);
  const own = (device: number) => order.filter((_, at) => at % DEVICES === device);
  return Array.from({ length: DEVICES }, (_, device) => subset(train, own(device)));
}

export async function accuracyOf(model: Uint8Array, { test, isRight }: LearningTask): Promise<number> {
  return (await rightOf(model, test, isRight)) / test.count;
}

/**
 * Of heart.yaml what differs for 100 devices with five rows each. Picked on a fifth of the training rows, at
 * ε 8 and 2, of nine: the clip norm is near what these updates reach, so that little noise is for nothing.
 */
const HEART: Pick<Plan, "train" | "rounds" | "secureAggregation" | "update"> = {
  train: { optimiser: { name: "sgd", learningRate: 0.1, momentum: 0 }, steps: 5, batchSize: 8 },
  rounds: 10,
  secureAggregation: { enabled: true, bits: 22 },
  update: { clipNorm: 0.25, clip: 1, maxWeight: 20 },
};

/** The four hospitals' training rows in one pool; null where the data is not there. */
export async function heartTask(): Promise<LearningTask | null> {
  const centres = await readCentres();
  if (!centres) return null;
  const prepare = async (seed: number) => {
    const folder = await mkdtemp(join(tmpdir(), "tutti-heart-"));
    const { plan, ...files } = await prepareHeart(folder, { seed });
    await rm(folder, { recursive: true, force: true });
    const cohort = { ...plan.cohort, min: DEVICES, max: DEVICES };
    return { plan: { ...plan, ...HEART, cohort }, ...files };
  };
  const { plan } = await prepare(1);
  const rows = CENTRES.map((centre) => rowsOf(centres[centre], plan));
  return {
    name: "heart",
    train: joined(rows.map(({ train }) => train)),
    test: joined(rows.map(({ heldOut }) => heldOut)),
    prepare,
    isRight: ({ data }, label, row) =>
      (data as Float32Array)[row]! > 0 === (label.data as Float32Array)[row]! > 0.5,
  };
}

const MNIST = fileURLToPath(new URL("../../privacy/mnist.yaml", import.meta.url));
const HELD_OUT = 1000;
const DIGITS = 10;

/** mnist10k, a thousand images of it held out by a draw of its own; null where the data is not there. */
export async function mnistTask(): Promise<LearningTask | null> {
  const examples = await readMnist();
  if (!examples) return null;
  const order = shuffled(examples.count, "mnist10k/held out");
  return {
    name: "mnist",
    train: subset(examples, order.slice(HELD_OUT)),
    test: subset(examples, order.slice(0, HELD_OUT)),
    prepare: (seed) => prepareRun(MNIST, { seed }),
    isRight: ({ data }, label, row) => {
      const logits = (data as Float32Array).subarray(row * DIGITS, (row + 1) * DIGITS);
      return BigInt(logits.indexOf(Math.max(...logits))) === (label.data as BigInt64Array)[row];
    },
  };
}

function shuffled(count: number, seed: string): readonly number[] {
  return seededRandom(seed).shuffle(Array.from({ length: count }, (_, row) => row));
}
