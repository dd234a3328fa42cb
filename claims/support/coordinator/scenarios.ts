import { FAILPOINTS, type Failpoint } from "@tutti/coordinator/failpoint";
import { asFault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { RunFileInput } from "@tutti/plan/plan";
import { putArtifact } from "tutti/owner";
import { type House, type HouseOptions, noopRun } from "./house.ts";

/** What is left of a scenario when it is over; through a kill it must be the same. */
export type Ending = Readonly<Record<string, unknown>>;

/** Something that happens to a federation, in which a coordinator passes its failpoints. */
export type Scenario = {
  readonly house: HouseName;
  /** What is armed besides the place where it is killed. */
  readonly armed?: string;
  /** Where else it is killed first, if the place is on the way back. */
  readonly first?: Failpoint;
  /** Everything that its owner and devices do; each step is asked for again until it is answered. */
  play(house: House, tag: string): Promise<Ending>;
};

/** Federations that scenarios share: a few devices, one that adds noise, and more than a hundred. */
export const HOUSES = {
  main: {
    devices: 4,
    processes: 2,
    lastAlone: true,
    inMemory: false,
    config: { retention: { rounds: 1, releases: 2, auditEntries: 100 } },
  },
  private: {
    devices: 3,
    processes: 1,
    inMemory: false,
    policy: { privacy: { epsilon: 1e6, delta: 1e-5, modes: ["central"] } },
  },
  crowd: { devices: 101, processes: 2, inMemory: true },
} satisfies Record<string, HouseOptions>;
export type HouseName = keyof typeof HOUSES;

/** Longer than anything but a deadline that a scenario waits for takes. */
const PATIENT = { joinMs: 60_000, trainMs: 60_000, stageMs: 60_000 };

/** As many as stay and as go at once, whatever came before. */
const ENTRIES = 200;

async function playRun(
  house: House,
  tag: string,
  change: Omit<Partial<RunFileInput>, "seed" | "name"> = {},
): Promise<Ending> {
  const run = await house.begin(
    noopRun({ name: tag, cohort: { min: 4, max: 4 }, deadlines: PATIENT, ...change }),
  );
  return await trained(house, run);
}

/** A reason is also there where an attempt failed and the next one did not. */
async function trained(house: House, run: string): Promise<Ending> {
  const { state, reason, history, attempt } = await house.over(run);
  const { version, adapter } = await house.newest(run);
  const survivors = history.map((round) => round.survivors);
  return { state, reason, attempt, survivors, version, adapter: sha256Hex(adapter) };
}

/** Everything that a federation's owner does while a round waits for one device. */
async function playOwner(house: House, tag: string): Promise<Ending> {
  house.tell(3, "silence");
  const run = await house.begin(noopRun({ name: tag, cohort: { min: 3, max: 4 }, deadlines: PATIENT }));
  const guest = `guest-${tag}`;
  const joined = await house.enrolPatiently(guest);
  await house.patiently((admin) => admin.revoke({ $typeName: "tutti.v1.RevokeRequest", device: guest }));
  // From another folder, and so with another key: a token is good once.
  const again = await house.enrolPatiently(guest, `${guest}-again`);
  await house.patiently((admin) => admin.stopRun({ $typeName: "tutti.v1.RunRequest", run }));
  const { state: stopped } = await house.over(run);
  house.tell(3, "speak");
  // It may have been heard, and the run be finished, when it is asked again.
  await house
    .patiently((admin) => admin.resumeRun({ $typeName: "tutti.v1.RunRequest", run }))
    .catch(unlessFinished);
  return { stopped, joined, again, ...(await trained(house, run)) };
}

function unlessFinished(error: unknown): void {
  if (!/is finished/.test(asFault(error).message)) throw error;
}

export const SCENARIOS = {
  /** A round of training, and one that evaluates. */
  round: { house: "main", play: (house, tag) => playRun(house, tag) },
  /** The same, and the coordinator dies in the midst of it before it dies again where it is told to. */
  back: { house: "main", first: "ack.shared", play: (house, tag) => playRun(house, tag) },
  /** So many rounds that files of old ones are removed. */
  old: { house: "main", play: (house, tag) => playRun(house, tag, { rounds: 3 }) },
  /** So much happens that old entries of the audit log are removed. */
  busy: {
    house: "main",
    async play(house, tag) {
      for (let put = 0; put < ENTRIES; put++)
        await house.patiently((admin) => putArtifact(admin, Uint8Array.of(1)));
      return await playRun(house, tag);
    },
  },
  owner: { house: "main", play: playOwner },
  /** One device declines, so too few are ready, and the round is tried again. */
  decline: {
    house: "main",
    async play(house, tag) {
      house.tell(3, "decline");
      return await playRun(house, tag);
    },
  },
  /** One device says nothing until a deadline passes. */
  late: {
    house: "main",
    async play(house, tag) {
      house.tell(3, "silence");
      const deadlines = { ...PATIENT, trainMs: 2_000 };
      const ending = await playRun(house, tag, { cohort: { min: 3, max: 4 }, deadlines });
      house.tell(3, "speak");
      return ending;
    },
  },
  /** One device's process dies while its round waits for it. */
  gone: {
    house: "main",
    async play(house, tag) {
      house.tell(3, "silence");
      const change = { name: tag, cohort: { min: 3, max: 4 }, deadlines: PATIENT };
      const run = await house.begin(noopRun(change));
      await house.devices[1]?.kill();
      const ending = await trained(house, run);
      await house.revive(1);
      return ending;
    },
  },
  /** Storage fails so often that a sum cannot be completed, and the round ends by name. */
  broken: {
    house: "main",
    armed: [1, 2, 3, 4, 5].map((nth) => `complete.begin:${nth}=error`).join(","),
    async play(house, tag) {
      // Devices helped to open this round's sum, and help with no second one: further attempts wait in vain.
      const deadlines = { ...PATIENT, stageMs: 10_000 };
      const run = await house.begin(noopRun({ name: tag, cohort: { min: 3, max: 4 }, deadlines }));
      const { state, history } = await house.over(run);
      return { state, survivors: history.map((round) => round.survivors) };
    },
  },
  /** The coordinator is asked to end while a round goes on, and comes back. */
  closing: {
    house: "main",
    async play(house, tag) {
      house.tell(3, "silence");
      const plan = noopRun({ name: tag, cohort: { min: 4, max: 4 }, deadlines: PATIENT });
      await house.begin(plan);
      house.coordinator.tell({ close: true });
      await house.coordinator.ended;
      house.tell(3, "speak");
      return await playRun(house, tag);
    },
  },
  /** The coordinator's own noise is in the sum: no two runs have the same. */
  noise: {
    house: "private",
    async play(house, tag) {
      const privacy = { mode: "central" as const, noiseMultiplier: 1 };
      const { adapter: _, ...ending } = await playRun(house, tag, { privacy, cohort: { min: 3, max: 3 } });
      return ending;
    },
  },
  /** More devices than a full graph has, so each picks who holds its shares. */
  crowd: { house: "crowd", play: (house, tag) => playRun(house, tag, { cohort: { min: 60, max: 101 } }) },
} satisfies Record<string, Scenario>;
export type ScenarioName = keyof typeof SCENARIOS;

/** Which scenario passes a failpoint; the first line that fits. */
const PASSES: readonly (readonly [RegExp, ScenarioName])[] = [
  [/^serve\.closing$/, "closing"],
  [/^(serve|load)\./, "back"],
  [/^(store\.(device|revoke)|enrol|revoke|run\.(stop|resume))|^ack\.revoked$/, "owner"],
  [/^(ack\.declined|round\.failing)$/, "decline"],
  [/^keep\.entries\./, "busy"],
  [/^keep\./, "old"],
  [/^ack\.tick$/, "late"],
  [/^ack\.disconnected$/, "gone"],
  [/^ack\.broken$/, "broken"],
  [/^ack\.noise$/, "noise"],
  [/^ack\.picked$/, "crowd"],
  [/./, "round"],
];

export function scenarioOf(failpoint: Failpoint): ScenarioName {
  return PASSES.find(([pattern]) => pattern.test(failpoint))![1];
}

/** Scenarios in an order that opens each house once, with the failpoints of each. */
export function casesOf(wanted: readonly Failpoint[] = FAILPOINTS): [ScenarioName, Failpoint[]][] {
  const names = Object.keys(SCENARIOS) as ScenarioName[];
  return names.map((name) => [name, wanted.filter((failpoint) => scenarioOf(failpoint) === name)]);
}
