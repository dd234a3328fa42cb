import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Claim } from "../claim.ts";
import { type House, noopRun, withHouse } from "../support/coordinator/house.ts";

const [ROUNDS, WARM_UP, DEVICES] = [1_000, 200, 50];
/** What may be added after the warm-up; less is no fault. */
const MOST = 0.1;
/** Of a release: its signed manifest, its line in the audit log, its record in the history. */
const MOST_PER_ROUND = 8 << 10;
const KEPT = { retention: { rounds: 10, releases: 10 } };

/** What a coordinator holds after a round: bytes, but for handles and artifacts. */
type Held = {
  readonly residentBytes: number;
  readonly handles: number;
  readonly artifacts: number;
  readonly artifactBytes: number;
  /** Database and write-ahead log. */
  readonly databaseBytes: number;
};

export const claim: Claim = {
  name: "coordinator/soak",
  target:
    `${ROUNDS} rounds of ${DEVICES} devices: resident size, handles and artifacts of the coordinator at ` +
    `most ${MOST * 100} % above what they were after ${WARM_UP}; the database grows by what stays for ` +
    `good, at most ${MOST_PER_ROUND >> 10} KiB a round`,
  async run(report) {
    const options = {
      devices: DEVICES,
      processes: 2,
      inMemory: true,
      watch: "phases",
      config: KEPT,
    } as const;
    const policy = { requireSecureAggregation: false };
    const seen = await withHouse({ ...options, policy }, (house) => soak(house, report));
    const warm = seen.filter(({ round }) => round >= WARM_UP);
    const [first, last] = [middle(warm.slice(0, 20)), middle(warm.slice(-20))];
    const rounds = ROUNDS - WARM_UP;
    const perRound = (last.databaseBytes - first.databaseBytes) / rounds;
    const growth = {
      resident: share(first.residentBytes, last.residentBytes),
      handles: share(first.handles, last.handles),
      artifacts: share(first.artifacts, last.artifacts),
      artifactBytes: share(first.artifactBytes, last.artifactBytes),
    };
    const figures = { rounds: ROUNDS, first, last, growth, databaseBytesPerRound: Math.round(perRound) };
    const holds = Object.values(growth).every((part) => part <= MOST) && perRound < MOST_PER_ROUND;
    return { figures, holds };
  },
};

async function soak(house: House, report: (line: string) => void): Promise<(Held & { round: number })[]> {
  const seen: (Held & { round: number })[] = [];
  let looked = -1;
  house.onCoordinator = (said) => {
    if (said.kind !== "phase" || said.round === looked) return;
    looked = said.round;
    seen.push({ round: said.round, ...look(house) });
    if (said.round % 50 === 0) report(JSON.stringify(seen.at(-1)));
  };
  const run = await house.begin(
    noopRun({
      name: "soak",
      rounds: ROUNDS,
      cohort: { min: DEVICES, max: DEVICES },
      secureAggregation: { enabled: false },
    }),
  );
  const { state, reason } = await house.over(run);
  if (state !== "finished") throw new Error(`the run ended as ${state}: ${reason}`);
  return seen;
}

function look({ federation, coordinator: { pid } }: House): Held {
  const folder = join(federation, "coordinator");
  const artifacts = readdirSync(join(folder, "artifacts"), { withFileTypes: true });
  const files = readdirSync(folder).filter((name) => name.startsWith("tutti.sqlite"));
  return {
    residentBytes: Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024,
    handles: readdirSync(`/proc/${pid}/fd`).length,
    artifacts: artifacts.length,
    artifactBytes: sum(artifacts.map(({ name }) => sizeOf(join(folder, "artifacts", name)))),
    databaseBytes: sum(files.map((name) => sizeOf(join(folder, name)))),
  };
}

/** 0 for one that is removed meanwhile. */
function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, one) => all + one, 0);
}

/** The median of each, as a garbage collection more or less must not decide. */
function middle(some: readonly Held[]): Held {
  const of = (part: keyof Held) => some.map((one) => one[part]).sort((a, b) => a - b)[some.length >> 1] ?? 0;
  return {
    residentBytes: of("residentBytes"),
    handles: of("handles"),
    artifacts: of("artifacts"),
    artifactBytes: of("artifactBytes"),
    databaseBytes: of("databaseBytes"),
  };
}

function share(before: number, after: number): number {
  return Math.round((after / before - 1) * 1000) / 1000;
}
