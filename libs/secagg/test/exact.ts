import { deepStrictEqual, match, ok, rejects } from "node:assert/strict";
import { seededRandom } from "@tutti/foundation/random";
import { dequantise, quantise, type Scale, steps, type Vector } from "@tutti/update/quantise";
import fc from "fast-check";
import { holdersOf } from "../src/graph.ts";
import { leastOf } from "../src/group.ts";
import { unmask, waitingFor } from "../src/server/session.ts";
import { FULL_GRAPH, thresholdFor } from "../src/threshold.ts";
import { begin, close, during, names, type Play, plainSum, type Stage, terms } from "./federation.ts";

// The property of a whole session, for its test and for claims/secagg/exact.ts.

/** In order; "pick" is left out where everyone shares with everyone. */
const ORDER = ["advertise", "pick", "share", "mask", "attest", "reveal"] as const;

export type Case = {
  /** For every device the stage in which it vanishes, by its place in `ORDER`; past the last is never. */
  readonly fate: readonly number[];
  readonly bits: number;
  readonly length: number;
  readonly values: "uniform" | "quantised";
  readonly seed: number;
};

export type Ended = "opened" | "failed";

/** 3 to 12 devices, one in four of which vanishes. */
export const full = casesOf({ min: 3, max: 12 }, { staying: 3, bits: 8 });
/** Just above the full graph. One in six vanishes: sizes are found for a tenth, so some sessions fail. */
export const sparse = casesOf({ min: FULL_GRAPH + 2, max: FULL_GRAPH + 8 }, { staying: 5, bits: 10 });

/** `staying` devices stay for each that vanishes; `bits`: the least that quantised vectors of so many fit. */
function casesOf(
  members: { min: number; max: number },
  { staying, bits }: { staying: number; bits: number },
): fc.Arbitrary<Case> {
  const fate = fc.oneof(
    { weight: staying, arbitrary: fc.constant<number>(ORDER.length) },
    { weight: 1, arbitrary: fc.nat({ max: ORDER.length - 1 }) },
  );
  const fates = fc
    .integer(members)
    .chain((n) => fc.array(fate, { minLength: n, maxLength: n }))
    // Below the devices' own floor, three members and three survivors, is another test's story.
    .filter((all) => here(all, "advertise").length >= 3 && here(all, "mask").length !== 2);
  return fc.record({
    fate: fates,
    bits: fc.integer({ min: bits, max: 32 }),
    length: fc.integer({ min: 1, max: 9 }),
    values: fc.constantFrom("uniform" as const, "quantised" as const),
    seed: fc.nat(),
  });
}

/** Places of the devices that are still there at the end of a stage. */
function here(fate: readonly number[], stage: (typeof ORDER)[number]): number[] {
  return fate.flatMap((left, at) => (left > ORDER.indexOf(stage) ? [at] : []));
}

/**
 * Plays one session. It opens to the plain sum of U3, bit for bit, where enough stay in every stage; else it
 * fails by name, nothing opens, and of no secret are there shares enough.
 * @throws AssertionError where that does not hold.
 */
export async function holdsFor(one: Case): Promise<Ended> {
  const { fate, bits, length } = one;
  const all = names(fate.length);
  const left = (stage: Stage) => here(fate, stage).map((at) => all[at]!);
  const play = begin(fate.length, terms({ bits, length }));
  const vectors = drawInputs(play, one);
  const n = left("advertise").length;
  for (const stage of ORDER) {
    if (stage === "pick" && n <= FULL_GRAPH) continue;
    await during(play, stage, left(stage));
    ok(
      waitingFor(play.session).every((device) => !left(stage).includes(device)),
      `${stage}: who answered is waited for`,
    );
    if (play.session.phase !== "complete") close(play);
    if (play.session.phase === "failed") break;
  }
  if (!isEnough(play, left)) {
    deepStrictEqual(play.session.phase, "failed");
    await checkNothing(play);
    return "failed";
  }
  deepStrictEqual(play.session.phase, "complete");
  const sum = await unmask(play.session, play.sum);
  deepStrictEqual(sum, plainSum(play, left("mask")));
  if (vectors) checkMean(sum, { ...vectors, survivors: here(fate, "mask") });
  return "opened";
}

/** Whether each stage keeps as many as the protocol asks (docs/protocol.md, Threshold), counted by hand. */
function isEnough({ session }: Play, left: (stage: Stage) => string[]): boolean {
  const { crew, group } = session;
  if (!crew || !group) return false;
  const { graph, parties } = group;
  const t = thresholdFor(parties.size);
  const least = graph.picked ? Math.max(t, leastOf(crew)) : t;
  if (left("share").length < least || left("mask").length < least || left("attest").length < t) return false;
  const answering = new Set(left("reveal"));
  const shares = (of: string) => holdersOf(graph, of).filter((name) => answering.has(name)).length;
  return left("share").every((of) => shares(of) >= graph.threshold);
}

async function checkNothing({ session, sum }: Play): Promise<void> {
  match(session.reason, /^below threshold/);
  await rejects(unmask(session, sum), /unmasking: expected phase complete/);
  const { group, counts, senders, signers } = session;
  if (signers.length === 0) deepStrictEqual(session.revealed.size, 0);
  const full = group !== null && group.graph.picked === null;
  if (full) ok(senders.every((of) => (counts.get(of) ?? 0) < group.graph.threshold));
}

type Drawn = { readonly vectors: readonly Vector[]; readonly scale: Scale };

/** Words of the ring for every device: uniform, or a quantised vector, which is then handed back. */
function drawInputs(play: Play, { values, seed, bits, length }: Case): Drawn | null {
  const random = seededRandom(seed);
  const devices = [...play.inputs.keys()];
  if (values === "uniform") {
    const word = () => Math.floor(random.uniform() * 2 ** bits);
    for (const device of devices) play.inputs.set(device, Uint32Array.from({ length }, word));
    return null;
  }
  const scale: Scale = { bits, devices: devices.length, clip: 0.5, maxWeight: 8, metrics: [] };
  const vectors = devices.map(() => ({
    update: Float32Array.from({ length: length - 1 }, () => random.uniform() - 0.5),
    weight: 1 + random.below(scale.maxWeight),
    metrics: [],
  }));
  for (const [at, device] of devices.entries())
    play.inputs.set(device, quantise(vectors[at]!, scale, random.fork(device)));
  return { vectors, scale };
}

/** Dequantised, the sum is the survivors' weighted mean, within what libs/update promises. */
function checkMean(
  sum: Uint32Array,
  { vectors, scale, survivors }: Drawn & { survivors: readonly number[] },
): void {
  const alive = survivors.map((at) => vectors[at]!);
  const length = sum.length - 1;
  const { mean, weight } = dequantise(sum, { scale, length, devices: alive.length });
  deepStrictEqual(
    weight,
    alive.reduce((total, vector) => total + vector.weight, 0),
  );
  const within = ((scale.clip / steps(scale)) * alive.length * scale.maxWeight) / weight;
  for (let i = 0; i < length; i++) {
    const exact = alive.reduce((total, vector) => total + vector.update[i]! * vector.weight, 0) / weight;
    ok(Math.abs(mean[i]! - exact) <= within + 1e-6, `coordinate ${i}: ${mean[i]}, exactly ${exact}`);
  }
}
