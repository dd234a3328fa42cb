import { inject } from "@tutti/adapter/inject";
import { resolve } from "@tutti/adapter/resolve";
import type { AdapterSpec, ResolvedAdapter } from "@tutti/adapter/spec";
import type { Clock } from "@tutti/foundation/clock";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Bind } from "@tutti/graph/bind";
import { differentiate } from "@tutti/graph/differentiate";
import {
  type Engine,
  type Static,
  sizeOf,
  type Tensor,
  type Tensors,
  type TracedGraph,
} from "@tutti/graph/ir";
import { type LossKind, withLoss } from "@tutti/graph/loss";
import type { Model } from "@tutti/graph/read";
import { tensorOf } from "@tutti/graph/tensor";
import { trace } from "@tutti/graph/trace";

export type BenchOptions = {
  readonly adapter: AdapterSpec;
  /** Sizes of what the model leaves open. */
  readonly bind: Bind;
  readonly loss: LossKind;
  readonly random: SeededRandom;
  readonly clock: Pick<Clock, "nowMs">;
};

/** A model's forward pass and one training step of its adapter, both with something to feed them. */
export type GraphBench = {
  readonly adapter: ResolvedAdapter;
  readonly base: TracedGraph;
  readonly step: TracedGraph;
  readonly feeds: Tensors;
  /** What trace, inject, loss and differentiate took together, resolving apart. */
  readonly deriveMs: number;
};

export function graphBench(model: Model, options: BenchOptions): GraphBench {
  const { bind, loss, random, clock } = options;
  const adapter = resolve(model, options.adapter);
  const startedMs = clock.nowMs();
  const base = trace(model.graph, bind);
  const lossy = withLoss(inject(base, adapter), { kind: loss });
  const step = differentiate(lossy, { loss: "loss", wrt: adapter.tensors.map(({ name }) => name) });
  const deriveMs = clock.nowMs() - startedMs;
  const feeds = step.inputs.map(({ name }) => {
    const known = step.statics.get(name)!;
    return [name, name === "row_weight" ? ones(known) : anything(known, random)] as const;
  });
  return { adapter, base, step, feeds: new Map(feeds), deriveMs };
}

/**
 * Values any model bears: whole numbers are 1 (a token, a present place of a mask, a class), the rest is
 * small noise. How fast a step is does not hang on what it computes.
 */
function anything({ dtype, shape }: Static, random: SeededRandom): Tensor {
  const whole = dtype !== "float32" && dtype !== "float64";
  return tensorOf(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, () => (whole ? 1 : 0.1 * random.normal())),
  );
}

/** Every row counts once; weights that are noise could add up to none, and the loss would be no number. */
function ones({ dtype, shape }: Static): Tensor {
  return tensorOf(dtype, shape, Array<number>(sizeOf(shape)).fill(1));
}

/** Something that is run again and again, and what of it has to be freed. */
export type Contender = { run(): Promise<unknown>; dispose(): Promise<void> };

export async function contender(engine: Engine, graph: TracedGraph, feeds: Tensors): Promise<Contender> {
  const program = await engine.load(graph);
  return { run: () => program.step(feeds), dispose: () => program.dispose() };
}

export type RaceOptions = {
  /** Timed runs of each. */
  readonly rounds: number;
  /** Runs before those: kernels are set up, code is compiled. */
  readonly warmUps: number;
  readonly clock: Pick<Clock, "nowMs">;
};

/**
 * Times of each contender in milliseconds. They take turns in one process, so that whatever else the machine
 * does falls on all alike.
 */
export async function race<Name extends string>(
  contenders: Readonly<Record<Name, Contender>>,
  { rounds, warmUps, clock }: RaceOptions,
): Promise<Record<Name, readonly number[]>> {
  const names = Object.keys(contenders) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = -warmUps; round < rounds; round++) {
    for (const name of names) {
      const startedMs = clock.nowMs();
      await contenders[name].run();
      if (round >= 0) times[name].push(clock.nowMs() - startedMs);
    }
  }
  return times;
}

/** Median of a list, and its lower and upper quartile. */
export type Spread = { readonly median: number; readonly low: number; readonly high: number };

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? Number.NaN;
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}

/** How many times longer one took than the other, turn by turn: medians hide what both suffered together. */
export function ratioOf(slow: readonly number[], quick: readonly number[]): Spread {
  return spreadOf(slow.map((ms, turn) => ms / quick[turn]!));
}
