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
  /** How often the owner lets a run go on that failed. */
  readonly resumes: number;
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
    resumes: pick(draw, [0, 0, 1]),
    chance,
  };
}

function planFor(draw: SeededRandom, { at, seed, size }: { at: number; seed: number; size: number }): Plan {
  const sums = draw.uniform();
  const plain = sums < 0.12;
  const noised = !plain && sums < 0.26;
  const method = pick(draw, ["fedit", "ffa", "rolora"]);
  const late = !noised && size > 3 && draw.uniform() < 0.3;
  return planOf({
    name: `run-${at}`,
    rounds: pick(draw, late ? [2, 3, 4] : [1, 1, 2, 2, 3]),
    seed: seed % 2 ** 31,
    adapter: { method },
    server: pick(draw, [{ name: "fedavg" }, { name: "momentum" }, { name: "adam", learningRate: 0.1 }]),
    cohort: cohortFor(draw, { size, late, several: !plain && size >= 6 && draw.uniform() < 0.7 }),
    secureAggregation: { enabled: !plain },
    ...(noised && { privacy: privacyFor(draw) }),
    ...(late && { staleness: lateFor(draw, method) }),
    attempts: 3 + draw.below(6),
    deadlines: {
      joinMs: 6_000 + draw.below(14_000),
      trainMs: 5_000 + draw.below(10_000),
      stageMs: 2_000 + draw.below(6_000),
    },
  });
}

/**
 * Often some devices too many for its places, of whom more or fewer are invited. Where all have a place a
 * round takes as long as its slowest, so that who is too late for one is in time for the next.
 */
function cohortFor(
  draw: SeededRandom,
  { size, late, several }: { size: number; late: boolean; several: boolean },
) {
  const overInvite = pick(draw, [1, 1.3, 1.3, 2]);
  if (several) return { min: 3, max: 4, count: 2, overInvite, ...(draw.uniform() < 0.4 && { target: 6 }) };
  const spare = size > 3 && draw.uniform() < (late ? 0.2 : 0.5) ? 1 + draw.below(size - 3) : 0;
  return { min: 3, max: size - spare, overInvite };
}

/** Of RoLoRA's rounds only every other moves the same tensors. */
function lateFor(draw: SeededRandom, method: string) {
  const max = method === "rolora" ? 2 : 1 + draw.below(2);
  return { max, weight: pick(draw, ["polynomial", "constant"]) };
}

function privacyFor(draw: SeededRandom): Record<string, unknown> {
  const mode = pick(draw, ["distributed", "central", "local"]);
  return { mode, noiseMultiplier: 0.5 + draw.uniform(), ...(draw.uniform() < 0.4 && { adaptiveClip: {} }) };
}

export function pick<T>(draw: SeededRandom, items: readonly T[]): T {
  return items[draw.below(items.length)]!;
}
