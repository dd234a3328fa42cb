import { type SeededRandom, seededRandom } from "@tutti/foundation/random";
import type { Plan } from "@tutti/plan/plan";
import { NAMES } from "./cast.ts";
import { planOf } from "./recipe.ts";

/** Everything that a seed decides before anything happens. */
export type Scenario = {
  readonly seed: number;
  readonly devices: readonly string[];
  /** Devices whose certificate ends half an hour after the beginning. */
  readonly short: ReadonlySet<string>;
  readonly plans: readonly Plan[];
  /** When each run is started; one that waits for the run before it has none. */
  readonly startsMs: readonly (number | null)[];
  readonly holdMs: number;
  /** When the weather calms and everybody who can comes back. */
  readonly calmMs: number;
  readonly chance: SeededRandom;
};

export function scenarioOf(seed: number): Scenario {
  const chance = seededRandom(`tutti/simulation/${seed}`);
  const draw = chance.fork("scenario");
  const devices = NAMES.slice(0, draw.uniform() < 0.15 ? 3 : pick(draw, [4, 4, 5, 5, 6, 7]));
  const drawn = draw.uniform();
  const runs = drawn < 0.06 ? 3 : drawn < 0.3 ? 2 : 1;
  const together = draw.uniform() < 0.6;
  return {
    seed,
    devices,
    short: new Set(draw.uniform() < 0.2 ? [devices[0]!] : []),
    plans: Array.from({ length: runs }, (_, at) => planFor(draw, { at, seed, size: devices.length })),
    startsMs: Array.from({ length: runs }, () => (together ? draw.uniform() * 4_000 : null)),
    holdMs: draw.uniform() < 0.5 ? 50 : 0,
    calmMs: 12_000 + draw.below(20_000),
    chance,
  };
}

function planFor(draw: SeededRandom, { at, seed, size }: { at: number; seed: number; size: number }): Plan {
  const sums = draw.uniform();
  const plain = sums < 0.12;
  const noised = !plain && sums < 0.26;
  const cohorts = !plain && size >= 6 && draw.uniform() < 0.7;
  return planOf({
    name: `run-${at}`,
    rounds: pick(draw, [1, 1, 2, 2, 3]),
    seed: seed % 2 ** 31,
    adapter: { method: pick(draw, ["fedit", "ffa", "rolora"]) },
    server: pick(draw, [{ name: "fedavg" }, { name: "momentum" }, { name: "adam", learningRate: 0.1 }]),
    cohort: cohorts ? { min: 3, max: 4, count: 2 } : { min: 3, max: size },
    secureAggregation: { enabled: !plain },
    ...(noised ? { privacy: privacyFor(draw) } : draw.uniform() < 0.1 && { staleness: { max: 2 } }),
    attempts: 3 + draw.below(6),
    deadlines: {
      joinMs: 6_000 + draw.below(14_000),
      trainMs: 5_000 + draw.below(10_000),
      stageMs: 2_000 + draw.below(6_000),
    },
  });
}

function privacyFor(draw: SeededRandom): Record<string, unknown> {
  const mode = pick(draw, ["distributed", "central", "local"]);
  return { mode, noiseMultiplier: 0.5 + draw.uniform(), ...(draw.uniform() < 0.4 && { adaptiveClip: {} }) };
}

export function pick<T>(draw: SeededRandom, items: readonly T[]): T {
  return items[draw.below(items.length)]!;
}
