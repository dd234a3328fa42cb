import { assert } from "@tutti/foundation/check";
import { Fault, type FaultCode } from "@tutti/foundation/fault";
import { seededSecret } from "@tutti/foundation/random";
import { centralNoise } from "@tutti/privacy/distributed";
import { fewestCounted, whyTooFew } from "@tutti/round/cohorts";
import { costOfSum } from "@tutti/round/price";
import { gridOfSum, sizeOf } from "@tutti/round/privacy";
import { type Result, readSum } from "@tutti/round/result";
import type { Round } from "@tutti/round/round";
import { type Summing, survivors } from "@tutti/round/summing";
import type { Agree } from "@tutti/secagg/agree";
import type { Group } from "@tutti/secagg/group";
import type { Lift } from "@tutti/secagg/server/lift";
import { unmask } from "@tutti/secagg/server/session";
import { type CohortRecord, CohortRecordSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import type { PrivacySpent } from "@tutti/wire/transcript";
import type { Sums } from "./waiting.ts";

/** Takes masks off a sum elsewhere than on this thread. */
export type LiftElsewhere = (sum: Uint32Array, lifts: readonly Lift[]) => Promise<void>;
export type Unmasking = {
  /** One turn of the event loop. */
  readonly pause: () => Promise<void>;
  readonly agree?: Agree;
  readonly lift?: LiftElsewhere;
  /** Told of a holder that must have lied about `of`'s secret; the sum is right all the same. */
  readonly onLiar?: (liar: string, of: string) => void;
};

/** What became of a cohort: a result that counts, or why there is none. */
export type Outcome = {
  readonly sum: Summing;
  /** Devices whose vectors are in its sum, sorted. */
  readonly devices: readonly string[];
  /** Null where it was not opened. */
  readonly plain: Uint32Array | null;
  readonly result: Result | null;
  /** What opening it cost its devices, counted or not; absent without noise. */
  readonly spent?: PrivacySpent | undefined;
  /** Empty for one that counts. */
  readonly dropped: string;
};

export type Counted = Outcome & { readonly plain: Uint32Array; readonly result: Result };

/** Of the coordinator, not of a cohort: a thread that died, or the process's end. */
const PASSING: ReadonlySet<FaultCode> = new Set<FaultCode>(["unavailable", "cancelled"]);

/**
 * Opens the sums of a round, one after another. A cohort whose sum cannot be opened or read is dropped by
 * name. `opened` keeps what was unmasked, so that a second try goes on from there.
 * @throws Fault where too few cohorts are left, with the reason of each that was dropped; "unavailable" where
 * another try may open it.
 */
export async function openCohorts(
  { spec, cohorts, noise }: Round,
  { sums, opened, unmasking }: { sums: Sums; opened: Map<number, Uint32Array>; unmasking: Unmasking },
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const faults: Fault[] = [];
  for (const [at, { sum, dropped }] of cohorts.entries()) {
    const devices = survivors(sum);
    const group = groupOf(sum);
    const size = group && sizeOf(group);
    const spent = () => (group ? costOfSum(spec, group, devices.length) : undefined);
    try {
      if (dropped) throw new Fault("below-threshold", dropped);
      const plain =
        opened.get(at) ?? (await openSum({ spec, noise }, { sum, masked: sums.get(at)! }, unmasking));
      opened.set(at, plain);
      const result = readSum(spec, plain, { devices: devices.length, size });
      outcomes.push({ sum, devices, plain, result, spent: spent(), dropped: "" });
    } catch (fault) {
      if (!(fault instanceof Fault) || PASSING.has(fault.code)) throw fault;
      faults.push(fault);
      const plain = opened.get(at) ?? null;
      const about = { sum, devices, plain, result: null, dropped: fault.message };
      outcomes.push(plain ? { ...about, spent: spent() } : about);
    }
  }
  const left = cohorts.length - faults.length;
  if (left >= fewestCounted(spec.plan, cohorts.length)) return outcomes;
  const [first] = faults as [Fault];
  if (cohorts.length === 1) throw first;
  const reasons = outcomes.map(({ dropped }) => dropped);
  throw new Fault(first.code, whyTooFew(spec.plan, reasons), { cause: first });
}

export function recordOfCohort({ devices, dropped }: Outcome): CohortRecord {
  return create(CohortRecordSchema, { size: devices.length, dropped });
}

/** A device is in one cohort; the dearest of them bounds what the round cost any. */
export function dearestRho(outcomes: readonly Outcome[]): number {
  return Math.max(0, ...outcomes.map(({ spent }) => spent?.rho ?? 0));
}

export function isCounted(outcome: Outcome): outcome is Counted {
  return outcome.dropped === "";
}

/**
 * The plain sum; in mode "central" with this coordinator's noise, before anything else sees it. Where a large
 * one is unmasked here, the event loop turns between two walks over it.
 */
async function openSum(
  { spec, noise }: Pick<Round, "spec" | "noise">,
  { sum, masked }: { sum: Summing; masked: Uint32Array },
  unmasking: Unmasking,
): Promise<Uint32Array> {
  if (sum.kind === "plain") return masked;
  const plain = await unmask(sum.session, masked, unmasking);
  const { privacy } = spec.plan;
  if (privacy?.mode !== "central") return plain;
  assert(noise !== null, "central noise is fixed before a sum is opened");
  const { group, sid } = sum.session;
  return centralNoise(plain, gridOfSum(spec, privacy, sizeOf(group!)), seededSecret(noise, sid!));
}

/** Who was in the roster says how much noise its devices added; null without masks. */
function groupOf(sum: Summing): Group | null {
  return sum.kind === "secure" ? sum.session.group : null;
}
