// Devices that train nothing, several in one process: node --import tsx devices.ts '<DevicesArgs as JSON>'.
// All else is the SDK's own: TLS, signed requests, backoff, checks, sessions, activation of releases.
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { openDevice } from "@tutti/client-sdk/device";
import type { Link } from "@tutti/client-sdk/link";
import { nativeAgree } from "@tutti/client-sdk/node/agree";
import { FILES, readConfig, readIdentity, readPolicy } from "@tutti/client-sdk/node/folder";
import { connect } from "@tutti/client-sdk/node/grpc";
import { heldUpMs } from "@tutti/client-sdk/node/held-up";
import { openLedger } from "@tutti/client-sdk/node/ledger";
import { openSpending } from "@tutti/client-sdk/node/spending";
import { openFolderStore } from "@tutti/client-sdk/node/store";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { memorySpending } from "@tutti/client-sdk/private";
import { memoryStore } from "@tutti/client-sdk/store";
import { systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { memoryLedger } from "@tutti/secagg/device/member";
import { create } from "@tutti/wire/message";
import { DeclineRequestSchema } from "@tutti/wire/round";
import { asChild } from "../round/child.ts";
import { noopData, noopEngine, noopRuntime } from "./noop.ts";

export type DevicesArgs = {
  readonly folders: readonly string[];
  /** Devices of different sites have different disks; here they would share one. */
  readonly inMemory: boolean;
};

export type DevicesSaid =
  | { readonly kind: "connected"; readonly device: string }
  /** What a device has an acknowledgement of it may rely on; `about` names run, round and attempt. */
  | { readonly kind: "acknowledged"; readonly device: string; readonly stage: Stage; readonly about: string }
  | {
      readonly kind: "failed";
      readonly device: string;
      readonly stage: Stage;
      readonly because: string;
    }
  | { readonly kind: "refused"; readonly device: string; readonly because: string };

/** Instead of saying that it is ready a device declines once, as busy, or is silent until it is told. */
export type DevicesTold = { readonly device: string; readonly next: "decline" | "silence" | "speak" };

export type Stage =
  | "ready"
  | "decline"
  | "advertise"
  | "pick"
  | "share"
  | "upload"
  | "attest"
  | "reveal"
  | "uploadStatus";

const odd = new Map<string, DevicesTold["next"]>();
const [args, say] = asChild<DevicesArgs, DevicesSaid, DevicesTold>(({ device, next }) => {
  odd.set(device, next);
});
const verify = nativeVerify();

/** The same link; what was acknowledged is said, and a device does what it was told instead. */
function heard(link: Link, device: string): Link {
  let about = "";
  const told =
    <Request, Reply>(stage: Stage, call: (request: Request, signal?: AbortSignal) => Promise<Reply>) =>
    async (request: Request, signal?: AbortSignal) => {
      const now = about;
      const reply = await call(request, signal).catch((error: unknown) => {
        say({ kind: "failed", device, stage, because: String(error) });
        throw error;
      });
      say({ kind: "acknowledged", device, stage, about: now });
      return reply;
    };
  const ready = told("ready", link.ready);
  const decline = told("decline", link.decline);
  return {
    ...link,
    decline,
    async ready(request, signal) {
      const { run, round, attempt } = request;
      about = `${run}/${round}/${attempt}`;
      const instead = odd.get(device);
      if (instead === "silence") return await new Promise(() => {});
      odd.delete(device);
      if (instead !== "decline") return await ready(request, signal);
      const busy = create(DeclineRequestSchema, { run, round, attempt, reason: "busy: told to be" });
      return await decline(busy, signal);
    },
    advertise: told("advertise", link.advertise),
    pick: told("pick", link.pick),
    share: told("share", link.share),
    upload: told("upload", link.upload),
    uploadStatus: told("uploadStatus", link.uploadStatus),
    attest: told("attest", link.attest),
    reveal: told("reveal", link.reveal),
  };
}

async function participate(folder: string): Promise<void> {
  const config = await readConfig(folder);
  const identity = await readIdentity(folder, config);
  const { name } = identity;
  const clock = systemClock();
  const kept = args.inMemory
    ? { store: memoryStore(), ledger: memoryLedger(), spending: memorySpending() }
    : {
        store: await openFolderStore(folder),
        ledger: openLedger(join(folder, FILES.rounds)),
        spending: await openSpending(join(folder, FILES.privacy)),
      };
  const device = await openDevice({
    identity,
    policy: await readPolicy(folder),
    data: noopData,
    folder: "",
    link: heard(connect({ ...config, key: identity.key, clock }), name),
    ...kept,
    engine: async () => noopEngine(name),
    runtime: noopRuntime,
    clock,
    jitter: seededRandom(randomBytes(16).toString("hex")),
    secret: platformRandom(),
    verify,
    agree: nativeAgree,
    heldUpMs,
    events: (event) => {
      if (event.kind === "state" && event.state === "connected") say({ kind: "connected", device: name });
      if (event.kind === "refused") say({ kind: "refused", device: name, because: event.because.message });
    },
  });
  await device.participate({ once: false }).catch((error: unknown) => {
    if (!(error instanceof Fault)) throw error;
    say({ kind: "refused", device: name, because: error.message });
  });
}

await Promise.all(args.folders.map(participate));
