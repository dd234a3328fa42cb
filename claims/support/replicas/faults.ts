import { equalBytes } from "@tutti/foundation/bytes";
import { smallRun } from "../round/recipe.ts";
import { takeTurns } from "../round/turns.ts";
import type { ReplicaSaid } from "./coordinator.ts";
import type { Replica, Replicas } from "./house.ts";
import { uploadsOf } from "./witness.ts";

/** What befalls the leader in the midst of a round, when half of the uploads are acknowledged. */
export const FAULTS = ["killed", "stopped", "cut"] as const;
export type Kind = (typeof FAULTS)[number];

export type Met = {
  readonly kind: Kind;
  /** From the fault until another coordinator answers. */
  readonly takeoverMs: number;
  /** It grew by one. */
  readonly nextEpoch: boolean;
  readonly finished: boolean;
  readonly attempts: number;
  /** Why attempts failed, where any did. */
  readonly failures: readonly string[];
  /** Every site's vector became durable exactly once. */
  readonly once: boolean;
  /** The adapter is the undisturbed run's, bit for bit. */
  readonly same: boolean;
  /** What the old leader's own write met afterwards; null of one that was killed. */
  readonly refused: string | null;
  /** A leader that was cut off said that it leads no more before the next one did; null of the others. */
  readonly stoodDownFirst: boolean | null;
};

const SEED = 7;
/** Well beyond a lease. */
const ASLEEP_MS = 6_000;

/** What the recipe releases when nothing happens on the way. */
export async function undisturbedAdapter(house: Replicas): Promise<Uint8Array> {
  takeTurns(house);
  const run = await house.begin(smallRun({ name: "undisturbed", seed: SEED }));
  return (await house.over(run)).adapter;
}

export async function struck(
  house: Replicas,
  { kind, time, undisturbed }: { kind: Kind; time: number; undisturbed: Uint8Array },
): Promise<Met> {
  const leader = await house.answering(house.replicas);
  const others = house.replicas.filter((one) => one !== leader);
  const before = epochOf(leader);
  const sleptFrom = Date.now();
  let beganMs = 0;
  const happened = new Promise<void>((resolve) => {
    takeTurns(house).onAcknowledged(2, () => {
      beganMs = performance.now();
      strike(kind, leader);
      resolve();
    });
  });
  const run = await house.begin(smallRun({ name: `${kind}-${time}`, seed: SEED }));
  await happened;
  const next = await house.answering(others);
  const takeoverMs = Math.round(performance.now() - beganMs);
  const refused = kind === "killed" ? null : await writeOfOld(house, { kind, leader, run });
  const { status, adapter } = await house.over(run);
  if (kind === "killed") await house.serve(leader);
  const uploads = await uploadsOf(house.cluster, house.database, run);
  return {
    kind,
    takeoverMs,
    nextEpoch: epochOf(next) === before + 1,
    finished: status.state === "finished",
    ...attemptsOf(house, run),
    once: uploads.length === house.sites.size && new Set(uploads).size === uploads.length,
    same: equalBytes(adapter, undisturbed),
    refused,
    stoodDownFirst: kind === "cut" ? rolesSince(leader, sleptFrom, null) < leadsAt(next) : null,
  };
}

/** Of any round of the run, as whoever led told. */
function attemptsOf({ replicas }: Replicas, run: string): Pick<Met, "attempts" | "failures"> {
  const told = replicas.flatMap(({ child }) => child.said).filter((said) => said.kind === "committed");
  const failed = told.filter((said) => said.run === run && (said.attempt ?? 0) > 0);
  return {
    attempts: 1 + Math.max(0, ...failed.map(({ attempt }) => attempt ?? 0)),
    failures: failed.map(({ reason }) => reason),
  };
}

function strike(kind: Kind, { child, wire }: Replica): void {
  if (kind === "killed") child.signal("SIGKILL");
  if (kind === "stopped") child.signal("SIGSTOP");
  if (kind === "cut") wire.cut();
}

/** Lets the old leader wake up, or reach its database again, and write as the leader that it was. */
async function writeOfOld(
  house: Replicas,
  { kind, leader, run }: { kind: Kind; leader: Replica; run: string },
): Promise<string> {
  await new Promise((resolve) => setTimeout(resolve, ASLEEP_MS));
  const { child, wire } = leader;
  const epoch = epochOf(leader);
  child.tell({ kind: "try", run });
  if (kind === "stopped") child.signal("SIGCONT");
  else wire.mend();
  const tries = () => child.said.filter((said) => said.kind === "tried" && said.epoch === epoch);
  // A try that no answer came to says nothing; the next one goes over a new connection.
  for (let told = 1; ; told++) {
    while (tries().length < told) await new Promise((resolve) => setTimeout(resolve, 20));
    const { met } = tries().at(-1) as Extract<ReplicaSaid, { kind: "tried" }>;
    if (!/PostgreSQL|committing/.test(met) || told > 20) {
      await house.answering(house.replicas);
      return met;
    }
    child.tell({ kind: "try", run });
  }
}

export function isRefusal(refused: string | null, epoch: number): boolean {
  return refused === `unavailable: lease, got ${epoch}`;
}

type Role = Extract<ReplicaSaid, { kind: "role" }>;

function rolesOf({ child }: Replica): Role[] {
  return child.said.filter((said): said is Role => said.kind === "role");
}

/** The newest epoch that it led in. */
export function epochOf(replica: Replica): number {
  return rolesOf(replica).findLast(({ epoch }) => epoch !== null)?.epoch ?? 0;
}

function leadsAt(replica: Replica): number {
  return rolesOf(replica).findLast(({ epoch }) => epoch !== null)?.atMs ?? Number.NaN;
}

function rolesSince(replica: Replica, sinceMs: number, epoch: number | null): number {
  return rolesOf(replica).find((role) => role.atMs >= sinceMs && role.epoch === epoch)?.atMs ?? Number.NaN;
}
