import { resolve } from "@tutti/adapter/resolve";
import type { Clock } from "@tutti/foundation/clock";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Engine, Tensors, TracedGraph } from "@tutti/graph/ir";
import type { Model } from "@tutti/graph/read";
import { feedsFor } from "../commands/graph/feeds.ts";
import { type Derived, derivedFor, type StepOptions } from "../commands/graph/step.ts";

export type BenchOptions = StepOptions & {
  readonly random: SeededRandom;
  readonly clock: Pick<Clock, "nowMs">;
};

/** A model's forward pass (`traced`) and one training step of its adapter, with something to feed both. */
export type GraphBench = Derived & {
  readonly feeds: Tensors;
  /** What trace, inject, loss and differentiate took together, resolving apart. */
  readonly deriveMs: number;
};

export function graphBench(model: Model, options: BenchOptions): GraphBench {
  const { loss, random, clock } = options;
  const adapter = resolve(model, options.adapter);
  const startedMs = clock.nowMs();
  const made = derivedFor(model, adapter, options);
  const deriveMs = clock.nowMs() - startedMs;
  return { ...made, feeds: feedsFor(model, made, { loss, random }), deriveMs };
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

export function quartilesOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? Number.NaN;
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}

/** How many times longer one took than the other, turn by turn: medians hide what both suffered together. */
export function ratioOf(slow: readonly number[], quick: readonly number[]): Spread {
  return quartilesOf(slow.map((ms, turn) => ms / quick[turn]!));
}
