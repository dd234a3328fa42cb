import type { Clock } from "@tutti/foundation/clock";
import type { SecretRandom } from "@tutti/foundation/random";
import type { Plan } from "@tutti/plan/plan";
import type { Trust } from "@tutti/round/summing";
import type { RunHeader } from "@tutti/wire/journal";
import type { SignedEnvelope } from "@tutti/wire/release";
import type { Log } from "../observe/log.ts";
import type { Complete } from "./complete.ts";
import type { RunStore } from "./run-store.ts";

/** What drives one run: its papers, and everything that the driver may not have of its own. */
export type DriverOptions = {
  readonly run: string;
  readonly plan: Plan;
  readonly planEnvelope: SignedEnvelope;
  readonly header: RunHeader;
  /** The newest release's signed manifest. */
  readonly parent: SignedEnvelope;
  readonly store: RunStore;
  readonly trust: () => Trust;
  readonly clock: Clock;
  /** What central noise is drawn from. */
  readonly random: SecretRandom;
  readonly complete: Complete;
  /** Devices that are here, and at this run's disposal. */
  readonly present: () => string[];
  /** Whether it has too few of them because other runs have the rest. */
  readonly waits?: () => boolean;
  /** Why too few came, with what is known of those who are here and may not serve it. */
  readonly whyFew?: (reason: string) => string;
  /** After every committed change. */
  readonly changed: () => void;
  /** Told of every failure of storage and of every bug. */
  readonly log: Log;
  /** How much later an acknowledgement may come so that more entries share a transaction. */
  readonly holdMs?: number;
};
