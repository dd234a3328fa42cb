import type { Clock } from "@tutti/foundation/clock";
import type { SecretRandom } from "@tutti/foundation/random";
import type { Verify } from "@tutti/identity/keys";
import type { Trust } from "@tutti/round/summing";
import type { Agree } from "@tutti/secagg/agree";
import type { Artifacts } from "../artifacts.ts";
import type { Federation } from "../folder/federation.ts";
import type { Log } from "../observe/log.ts";
import type { Store } from "../store/store.ts";
import type { LiftElsewhere } from "./open.ts";
import type { Keeping, Retention } from "./retention.ts";

/** What a coordinator is put together from, by the process that it is in. */
export type CoordinatorParts = {
  readonly store: Store;
  readonly artifacts: Artifacts;
  readonly federation: Federation;
  readonly clock: Clock;
  readonly random: SecretRandom;
  readonly verify: Verify;
  /** A faster X25519 than the portable one. */
  readonly agree?: Agree;
  /** Unmasks on other threads than this. */
  readonly lift?: LiftElsewhere;
  /** Told of what no caller hears of: storage that failed, and bugs. */
  readonly log: Log;
  readonly holdMs?: number;
  /** The certificates, DER, that are shown in TLS: this process's, then those of others. */
  readonly servedDers?: () => readonly Uint8Array[];
  /** What stays of old rounds and of the audit log; everything, where it is not said. */
  readonly kept?: Keeping;
};

/** What runs are started and driven with. */
export type RunParts = Omit<CoordinatorParts, "kept"> & {
  readonly retention: Retention;
  /** Whom the federation trusts, now. */
  readonly trust: () => Trust;
};
