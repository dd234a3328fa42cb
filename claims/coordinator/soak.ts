import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { RunStatus } from "@tutti/wire/admin";
import type { Claim } from "../claim.ts";
import { type House, noopRun, withHouse } from "../support/coordinator/house.ts";
import { unitEnvironment } from "../support/coordinator/unit.ts";

/** TUTTI_SOAK: fewer rounds, for a look; the figures say how many. */
const WHOLE = 1_000;
const ROUNDS = Number(process.env.TUTTI_SOAK ?? WHOLE);
/** By then everything has been removed once: 100 records are in the header, 200 entries in the audit log. */
const WARM_UP = Math.min(300, Math.floor(ROUNDS / 2));
/** Two runs go on at once, one of plain sums and one of secure ones; the rounds of both count. */
const [PLAIN, SECURE] = [50, 5];
/** Rounds at either end that are compared. */
const WINDOW = Math.max(1, Math.min(100, Math.floor((ROUNDS - WARM_UP) / 2)));
/** Of each, in a whole claim. */
const FEWEST = 200;
/** What may be added after the warm-up; less is no fault. */
const MOST = 0.1;
const KEPT = { retention: { rounds: 10, releases: 10, auditEntries: 100 } };

/** Rounds after which garbage is collected, at either end: how much of it there is must not decide. */
const COLLECTS = [0, 10, 20, 30, 40];

const PARTS = [
  "handles",
  "artifacts",
  "artifactBytes",
  /** Database and write-ahead log. */
  "databaseBytes",
  /** The coordinator's whole folder. */
  "diskBytes",
] as const;
/** What a coordinator holds after a round, besides memory. */
type Held = Readonly<Record<(typeof PARTS)[number], number>>;

export const claim: Claim = {
  name: "coordinator/soak",
  target:
    `${WHOLE} rounds in one coordinator, of ${PLAIN} devices with plain sums and of ${SECURE} with secure ` +
    `ones at the same time, at least ${FEWEST} of each, with "retention" set: resident size ` +
    `(after a collection), handles, artifacts, database and whole disk at most ${MOST * 100} % above what ` +
    `they were after ${WARM_UP}`,
  async run(report) {
    const options = {
      devices: PLAIN + SECURE,
      processes: 2,
      inMemory: true,
      watch: "every",
      config: KEPT,
      environment: await unitEnvironment(),
      labels: (device: number) => ({ sums: device < PLAIN ? "plain" : "secure" }),
    } as const;
    const policy = { requireSecureAggregation: false };
    const beganMs = performance.now();
    const { seen, resident, collected, plain, secure } = await withHouse({ ...options, policy }, (house) =>
      soak(house, report),
    );
    const seconds = Math.round((performance.now() - beganMs) / 1000);
    const warm = seen.slice(WARM_UP);
    const ends = [
      { ...typical(warm.slice(0, WINDOW)), ...kept(collected.slice(0, COLLECTS.length)) },
      { ...typical(warm.slice(-WINDOW)), ...kept(collected.slice(-COLLECTS.length)) },
    ] as const;
    const [first, last] = ends;
    const growth = Object.fromEntries(
      [...PARTS, "residentBytes" as const].map((part) => [part, share(first[part], last[part])]),
    );
    const rounds = { rounds: plain + secure, plain, secure, warmUp: WARM_UP, seconds };
    // As it is seen from outside: least, quarter, median, three quarters, most.
    const figures = { ...rounds, first, last, growth, resident: quartiles(resident.slice(WARM_UP)) };
    const whole = plain + secure >= WHOLE && Math.min(plain, secure) >= FEWEST;
    return { figures, holds: whole && Object.values(growth).every((part) => part <= MOST) };
  },
};

type Collected = { readonly residentBytes: number; readonly heapBytes: number };

type Soaked = {
  /** What was held as each round ended. */
  readonly seen: readonly Held[];
  readonly resident: readonly number[];
  /** What was left after each collection. */
  readonly collected: readonly Collected[];
  /** Rounds that ended with a release, by their kind. */
  readonly plain: number;
  readonly secure: number;
};

async function soak(house: House, report: (line: string) => void): Promise<Soaked> {
  const seen: Held[] = [];
  const resident: number[] = [];
  const collected: Collected[] = [];
  const rounds = new Map<string, number>();
  const collects = new Set(COLLECTS.flatMap((at) => [WARM_UP + 1 + at, ROUNDS - 1 - at]));
  house.onCoordinator = (said) => {
    if (said.kind === "collected") collected.push(said);
    if (said.kind !== "phase") return;
    const before = rounds.get(said.run) ?? 0;
    rounds.set(said.run, said.round);
    if (said.round === before) return;
    seen.push(look(house));
    resident.push(residentOf(house));
    if (collects.has(seen.length)) house.coordinator.tell({ collect: true });
    if (seen.length % 50 === 0)
      report(
        JSON.stringify({ rounds: [...rounds.values()], residentBytes: resident.at(-1), ...seen.at(-1) }),
      );
  };
  const runs = [await begin(house, "plain", PLAIN), await begin(house, "secure", SECURE)];
  let running = true;
  while (running && seen.length < ROUNDS) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const { runs: known } = await house.patiently((admin) => admin.listRuns({ $typeName: LIST }));
    running = known.every(({ state }) => state === "running");
  }
  const [plain, secure] = await Promise.all(runs.map((run) => ended(house, run)));
  if (!secure!.history.every((record) => record.secure)) throw new Error("a sum was not secure");
  return { seen, resident, collected, plain: countOf(plain!), secure: countOf(secure!) };
}

const LIST = "tutti.v1.ListRunsRequest" as const;
const POLL_MS = 500;

/** Stops a run that goes on; @throws where it ended by itself. */
async function ended(house: House, run: string): Promise<RunStatus> {
  const status = await house.patiently((admin) => admin.stopRun({ $typeName: "tutti.v1.RunRequest", run }));
  if (status.state !== "stopped") throw new Error(`a run ended as ${status.state}: ${status.reason}`);
  return status;
}

function countOf({ earlier, history }: RunStatus): number {
  return earlier + history.length;
}

/** More than there will be. */
const MOST_ROUNDS = 10_000;

function begin(house: House, name: "plain" | "secure", devices: number): Promise<string> {
  const run = noopRun({
    name,
    rounds: MOST_ROUNDS,
    cohort: { min: devices, max: devices },
    eligibility: { labels: { sums: name } },
    secureAggregation: { enabled: name === "secure" },
  });
  return house.begin(run);
}

function residentOf({ coordinator: { pid } }: House): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

function look({ federation, coordinator: { pid } }: House): Held {
  const folder = join(federation, "coordinator");
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => ({ parentPath, name, bytes: sizeOf(join(parentPath, name)) }));
  const artifacts = files.filter(({ parentPath }) => parentPath === join(folder, "artifacts"));
  return {
    handles: readdirSync(`/proc/${pid}/fd`).length,
    artifacts: artifacts.length,
    artifactBytes: sum(artifacts),
    databaseBytes: sum(files.filter(({ name }) => name.startsWith("tutti.sqlite"))),
    diskBytes: sum(files),
  };
}

/** 0 for one that is removed meanwhile. */
function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

function sum(files: readonly { readonly bytes: number }[]): number {
  return files.reduce((all, { bytes }) => all + bytes, 0);
}

function typical(some: readonly Held[]): Held {
  const of = (part: keyof Held) => median(some.map((one) => one[part]));
  return Object.fromEntries(PARTS.map((part) => [part, of(part)])) as Held;
}

function kept(some: readonly Collected[]): Collected {
  const of = (part: keyof Collected) => median(some.map((one) => one[part]));
  return { residentBytes: of("residentBytes"), heapBytes: of("heapBytes") };
}

function median(values: readonly number[]): number {
  return quartiles(values)[2] ?? 0;
}

/** Least, quarter, median, three quarters, most. */
function quartiles(values: readonly number[]): number[] {
  const sorted = [...values].sort((a, b) => a - b);
  return [0, 0.25, 0.5, 0.75, 1].map((part) => sorted[Math.round(part * (sorted.length - 1))] ?? 0);
}

function share(before: number, after: number): number {
  return Math.round((after / before - 1) * 1000) / 1000;
}
