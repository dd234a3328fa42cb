import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Claim } from "../claim.ts";
import { Child } from "../support/round/child.ts";
import { median } from "../support/secagg/kernel-speed.ts";
import { openedSession, type Sizes } from "../support/secagg/opened.ts";
import { type Cost, costOf, type Race, raceOn } from "../support/secagg/unmasking.ts";
import type { UploadsSaid } from "../support/secagg/uploads.ts";

/**
 * With 30 % of the members lost about 67 of 96 holders stay. Of the finder's sizes against a coordinator
 * that only looks, for 33 % lost, k = 92 with t = 35 and k = 98 with t = 38 are next to k = 96 (9 and 10 % of
 * the members in its hands).
 */
const SIZES = { n: 1000, length: 100_000, degree: 96, threshold: 36 } as const;
/** Shares of members lost, and how often each is unmasked: the median counts. */
const CASES = [
  { lost: 0, turns: 7 },
  { lost: 0.1, turns: 3 },
  { lost: 0.3, turns: 1 },
] as const;
const OVER_FLOOR = 1.5;
/** Turns of one and of two threads after each other; the fastest of each count. */
const [RACED, RACES, SPEED_UP] = [0.05, 6, 1.7] as const;
/** Vectors that a hundred and a thousand devices send, and the part of the difference memory may grow by. */
const [FEW, MANY, GROWTH] = [100, 1000, 0.1] as const;

export const claim: Claim = {
  name: "secagg/coordinator-cost",
  target:
    "unmasking 10^5 words of 1000 members, 96 holders each, 0, 10 and 30 % lost: at most 1.5 times the " +
    "processor time that the ChaCha20 streams alone take in the same run, exactly the plain sum; two " +
    "threads at least 1.7 times as fast as one, by the clock or, where the machine has other work, by the " +
    "processor time of the busiest thread; memory that does not grow with the vectors taken",
  async run(report) {
    await costOf(await openedSession({ ...SIZES, n: 200, lost: 20 }), 2);
    const costs: Record<string, ReturnType<typeof shown>> = {};
    for (const { lost, turns } of CASES) {
      const cost = await costOf(await openedSession(sizes(lost)), turns);
      costs[`${100 * lost}%`] = shown(cost);
      report(`${100 * lost} % lost: ${JSON.stringify(shown(cost))}`);
    }
    const threads = await race(report);
    const memory = await grown(report);
    const cheap = Object.values(costs).every(({ exact, overFloor }) => exact && overFloor <= OVER_FLOOR);
    const { byClock, byProcessorTime } = threads;
    const faster = byClock.speedUp >= SPEED_UP || byProcessorTime.speedUp >= SPEED_UP;
    const holds = cheap && threads.exact && faster && memory.share <= GROWTH;
    return { figures: { ...SIZES, costs, threads, memory }, holds };
  },
};

function sizes(lost: number): Sizes {
  return { ...SIZES, lost: Math.round(lost * SIZES.n) };
}

function shown({ streams, exact, floorS, takenS, secretsS }: Cost) {
  return {
    streams,
    exact,
    floorS: rounded(median(floorS)),
    takenS: rounded(median(takenS)),
    ofThatSecretsS: rounded(median(secretsS)),
    overFloor: rounded(median(takenS.map((taken, turn) => taken / floorS[turn]!))),
  };
}

/** The fastest of several turns each: other work on the machine makes a turn too long, never too short. */
async function race(report: (line: string) => void) {
  const opened = await openedSession(sizes(RACED));
  const turns: Record<1 | 2, Race[]> = { 1: [], 2: [] };
  for (let turn = 0; turn < RACES; turn++) {
    for (const threads of [1, 2] as const) turns[threads].push(await raceOn(threads, opened));
    report(`one thread ${JSON.stringify(turns[1].at(-1))}, two ${JSON.stringify(turns[2].at(-1))}`);
  }
  const best = (threads: 1 | 2, of: "clockS" | "pathS") =>
    Math.min(...turns[threads].map((it) => it[of] ?? NaN));
  const compared = (of: "clockS" | "pathS") => {
    const [one, two] = [best(1, of), best(2, of)];
    return { one: rounded(one), two: rounded(two), speedUp: rounded(one / two) };
  };
  const exact = [...turns[1], ...turns[2]].every((it) => it.exact);
  return {
    lost: RACED,
    turns: RACES,
    exact,
    byClock: compared("clockS"),
    byProcessorTime: compared("pathS"),
  };
}

/** How much more memory a thousand vectors take than a hundred, as a share of what the vectors would. */
async function grown(report: (line: string) => void) {
  const [few, many] = [await taking(FEW), await taking(MANY)];
  report(`memory above an idle coordinator's: ${JSON.stringify({ few, many })}`);
  const vectors = (MANY - FEW) * many.vectorBytes;
  const share =
    Math.max(many.residentBytes - few.residentBytes, many.bufferBytes - few.bufferBytes) / vectors;
  const mb = ({ residentBytes, bufferBytes }: UploadsSaid) => {
    return { residentMb: Math.round(residentBytes / 1e6), buffersMb: Math.round(bufferBytes / 1e6) };
  };
  const shownAs = { [FEW]: mb(few), [MANY]: mb(many), vectorsMb: Math.round(vectors / 1e6) };
  return { ...shownAs, share: rounded(share) };
}

async function taking(devices: number): Promise<UploadsSaid> {
  const folder = await mkdtemp(join(tmpdir(), "tutti-claim-"));
  const program = new URL("../support/secagg/uploads.ts", import.meta.url);
  const child = new Child<UploadsSaid>(program, { folder, devices }, join(folder, "log"));
  try {
    return await child.until((said): said is UploadsSaid => said.vectorBytes > 0);
  } finally {
    await child.kill();
    await rm(folder, { recursive: true, force: true });
  }
}

function rounded(value: number): number {
  return Math.round(1000 * value) / 1000;
}
