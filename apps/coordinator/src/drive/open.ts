import { Fault } from "@tutti/foundation/fault";
import { fewestCounted, whyTooFew } from "@tutti/round/cohorts";
import { type Result, readSum } from "@tutti/round/result";
import type { Round } from "@tutti/round/round";
import { type Summing, survivors } from "@tutti/round/summing";
import type { Agree } from "@tutti/secagg/agree";
import type { Lift } from "@tutti/secagg/server/lift";
import { unmask } from "@tutti/secagg/server/session";
import { type CohortRecord, CohortRecordSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import type { Sums } from "./waiting.ts";

/** Takes masks off a sum elsewhere than on this thread. */
export type LiftElsewhere = (sum: Uint32Array, lifts: readonly Lift[]) => Promise<void>;
export type Unmasking = { readonly agree?: Agree; readonly lift?: LiftElsewhere };

/** What became of a cohort: a result that counts, or why there is none. */
export type Outcome = {
  readonly sum: Summing;
  /** Devices whose vectors are in its sum, sorted. */
  readonly devices: readonly string[];
  /** Null where it was not opened. */
  readonly plain: Uint32Array | null;
  readonly result: Result | null;
  /** Empty for one that counts. */
  readonly dropped: string;
};

export type Counted = Outcome & { readonly plain: Uint32Array; readonly result: Result };

/**
 * Opens the sums of a round, one after another. A cohort whose sum cannot be opened or read is dropped by
 * name. `opened` keeps what was unmasked, so that a second try goes on from there.
 * @throws Fault where too few cohorts are left, with the reason of each that was dropped.
 */
export async function openCohorts(
  { spec, cohorts }: Round,
  { sums, opened, unmasking }: { sums: Sums; opened: Map<number, Uint32Array>; unmasking: Unmasking },
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const faults: Fault[] = [];
  for (const [at, { sum, dropped }] of cohorts.entries()) {
    const devices = survivors(sum);
    try {
      if (dropped) throw new Fault("below-threshold", dropped);
      const plain = opened.get(at) ?? (await openSum(sum, sums.get(at)!, unmasking));
      opened.set(at, plain);
      outcomes.push({ sum, devices, plain, result: readSum(spec, plain, devices.length), dropped: "" });
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      faults.push(fault);
      outcomes.push({ sum, devices, plain: opened.get(at) ?? null, result: null, dropped: fault.message });
    }
  }
  const left = cohorts.length - faults.length;
  if (left >= fewestCounted(spec.plan, cohorts.length)) return outcomes;
  const [only] = faults as [Fault];
  if (cohorts.length === 1) throw only;
  const reasons = outcomes.map(({ dropped }) => dropped);
  throw new Fault(only.code, whyTooFew(spec.plan, reasons), { cause: only });
}

export function recordOfCohort({ devices, dropped }: Outcome): CohortRecord {
  return create(CohortRecordSchema, { size: devices.length, dropped });
}

export function isCounted(outcome: Outcome): outcome is Counted {
  return outcome.dropped === "";
}

/** The plain sum. Where a large one is unmasked here, the event loop turns between two walks over it. */
async function openSum(of: Summing, sum: Uint32Array, unmasking: Unmasking): Promise<Uint32Array> {
  if (of.kind === "plain") return sum;
  const pause = () => new Promise<void>((resolve) => setImmediate(resolve));
  return await unmask(of.session, sum, { pause, ...unmasking });
}
