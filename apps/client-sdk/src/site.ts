import type { Clock } from "@tutti/foundation/clock";
import type { SecretRandom, SeededRandom } from "@tutti/foundation/random";
import type { Engine } from "@tutti/graph/ir";
import type { SigningKey, Verify } from "@tutti/identity/keys";
import type { Trust } from "@tutti/release/dsse";
import type { Agree, AgreeAll } from "@tutti/secagg/agree";
import type { VerifyAll } from "@tutti/secagg/device/ahead";
import type { Ledger } from "@tutti/secagg/device/member";
import type { Certificate } from "@tutti/wire/device";
import type { Audit } from "./audit.ts";
import type { Listener } from "./events.ts";
import type { Data } from "./examples.ts";
import type { Link } from "./link.ts";
import type { Runtime } from "./model.ts";
import type { Policy } from "./policy.ts";
import type { Spending } from "./private.ts";
import type { OwnState } from "./state.ts";
import type { Store } from "./store.ts";

/** Who this device is, as it joined: its key never leaves it. */
export type DeviceIdentity = {
  readonly federation: string;
  readonly name: string;
  readonly key: SigningKey;
  /** The present one: a renewal puts another in its place. */
  readonly certificate: Certificate;
  /** Keeps a renewed certificate, through a restart too. Absent: this device's does not renew. */
  keep?(certificate: Certificate): Promise<void>;
  /** The federation's authority, pinned at joining. */
  readonly authority: Uint8Array;
};

/** A device's parts, brought by its platform: node/, a browser, or a simulation. */
export type Site = {
  readonly identity: DeviceIdentity;
  readonly policy: Policy;
  readonly data: Data;
  /** Where the app's data function may read; empty where the platform has no folders. */
  readonly folder: string;
  readonly link: Link;
  readonly store: Store;
  /** Runs training graphs. Made when first needed, since not every start trains. */
  readonly engine: () => Promise<Engine>;
  /** Runs the model for answers. */
  readonly runtime: Runtime;
  readonly clock: Clock;
  readonly jitter: SeededRandom;
  readonly secret: SecretRandom;
  /** Rounds whose sum this device helped to open, kept through restarts: it helps with no second one. */
  readonly ledger: Ledger;
  /** What this device has given away under differential privacy, kept through restarts. */
  readonly spending: Spending;
  /** A faster Ed25519 check than the portable one. */
  readonly verify?: Verify;
  /** A faster X25519 than the portable one. */
  readonly agree?: Agree;
  /** Both, where the platform has them asynchronously only (a browser's WebCrypto). */
  readonly verifyAll?: VerifyAll;
  readonly agreeAll?: AgreeAll;
  /** What happened here, for whoever answers for this site; absent where the platform keeps no log. */
  readonly audit?: Audit;
  /** What it can say of itself to runs that ask; absent: nothing. */
  readonly state?: () => OwnState | Promise<OwnState>;
  /** How long the event loop stood still at most, of late; absent where the platform cannot tell. */
  readonly heldUpMs?: () => number;
  /** Names of the engines that it can train on: "tfjs", "onnxruntime". */
  readonly engines?: readonly string[];
  /** False where no stream can live: the device asks now and then instead. */
  readonly stream?: boolean;
  /** The run, by its name, whose releases answer here; absent: those of any run it takes part in. */
  readonly serves?: string;
  readonly emit: Listener;
};

/**
 * Certificates are judged by the device's own clock: the coordinator's could be set to make an expired one
 * good.
 */
export function trustOf({ identity, clock, verify }: Pick<Site, "identity" | "clock" | "verify">): Trust {
  const nowS = Math.floor(clock.wallMs() / 1000);
  return { authority: identity.authority, nowS, ...(verify && { verify }) };
}
