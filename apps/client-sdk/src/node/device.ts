import { randomBytes } from "node:crypto";
import { join, resolve } from "node:path";
import type { Note } from "@tutti/audit/entry";
import { systemClock } from "@tutti/foundation/clock";
import type { Fault } from "@tutti/foundation/fault";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import type { Engine } from "@tutti/graph/ir";
import { type Device as Opened, openDevice, type ParticipateOptions } from "../device.ts";
import type { Listener } from "../events.ts";
import type { Data } from "../examples.ts";
import type { OwnState } from "../state.ts";
import { nativeAgree } from "./agree.ts";
import { coordinatorHeads, openAudit } from "./audit.ts";
import { type EngineName, nodeEngine } from "./engine.ts";
import { type DeviceConfig, FILES, readConfig, readIdentity, readPolicy, readShown } from "./folder.ts";
import { connect } from "./grpc.ts";
import { heldUpMs } from "./held-up.ts";
import { openLedger } from "./ledger.ts";
import { lockFolder } from "./lock.ts";
import { openPins } from "./pins.ts";
import { onnxruntimeNode } from "./runtime.ts";
import { openSpending } from "./spending.ts";
import { openFolderStore } from "./store.ts";
import { nativeVerify } from "./verify.ts";

export type DeviceOptions = {
  /** The folder that `join` made. */
  readonly folder: string;
  readonly data: Data;
  readonly engine?: EngineName | Engine;
  readonly events?: Listener;
  /** What the app knows of this machine, for runs that ask for it; say `stateChanged` when it changes. */
  readonly state?: () => OwnState | Promise<OwnState>;
  /** False where the network lets no stream live: the device asks now and then instead. */
  readonly stream?: boolean;
  /** The run, by its name, whose releases `model()` answers with; absent: whichever comes last. */
  readonly serves?: string;
};

/**
 * A device in Node, from the folder it joined with, which is its own until `close`. @throws Fault naming the
 * file that is missing or not as it must be; Fault("conflict") while another process has the folder.
 */
async function open(options: DeviceOptions): Promise<Opened> {
  // First, or a folder that nobody joined with would get a lock.
  const config = await readConfig(options.folder);
  const { events = () => {} } = options;
  let gone: Fault | undefined;
  let close = async () => {};
  const ours = () => {
    if (gone) throw gone;
  };
  const unlock = await lockFolder(options.folder, {
    waits: (because) => events({ kind: "waits", because }),
    lost: (because) => {
      gone = because;
      events({ kind: "refused", because });
      close().catch(() => {});
    },
  });
  try {
    const device = await openLocked(options, config, ours);
    close = () => device.close().finally(unlock);
    // Lost while it opened: there was nothing to close yet.
    if (gone) await close().finally(ours);
    const participate = async (how?: ParticipateOptions) => {
      ours();
      const done = await device.participate(how);
      ours();
      return done;
    };
    const rollback = async () => {
      ours();
      await device.rollback();
    };
    return { ...device, participate, rollback, close };
  } catch (error) {
    await unlock();
    throw error;
  }
}

async function openLocked(
  { folder, data, engine, events, ...own }: DeviceOptions,
  config: DeviceConfig,
  ours: () => void,
): Promise<Opened> {
  const policy = await readPolicy(folder);
  const identity = await readIdentity(folder, config);
  const { address, addresses, tls, name } = config;
  const clock = systemClock();
  const log = openAudit(join(folder, FILES.audit), { device: name, wallMs: () => clock.wallMs() });
  // Before everything that leaves there is an entry: nothing does from a folder that is another's now.
  const note = (entry: Note) => {
    ours();
    log.note(entry);
  };
  const audit = { note, close: log.close };
  const heads = coordinatorHeads(audit, () => clock.nowMs());
  const device = await openDevice({
    identity,
    policy,
    data,
    folder: policy.dataFolder === null ? "" : resolve(folder, policy.dataFolder),
    link: connect({
      address,
      addresses,
      tls,
      name,
      key: identity.key,
      shows: await readShown(folder),
      pins: await openPins(folder, identity.authority),
      clock,
      onHello: heads.hear,
    }),
    store: await openFolderStore(folder),
    engine: async () => (typeof engine === "object" ? engine : await nodeEngine(engine)),
    runtime: onnxruntimeNode(),
    clock,
    jitter: seededRandom(randomBytes(16).toString("hex")),
    secret: platformRandom(),
    ledger: openLedger(join(folder, FILES.rounds)),
    spending: await openSpending(join(folder, FILES.privacy)),
    audit,
    verify: nativeVerify(),
    agree: nativeAgree,
    heldUpMs,
    engines: enginesOf(engine),
    ...own,
    ...(events && { events }),
  });
  const close = () =>
    device.close().finally(() => {
      heads.close();
      audit.close();
    });
  return { ...device, close };
}

/** What it can train on; "auto" chooses between the two. */
function enginesOf(engine: EngineName | Engine = "tfjs"): string[] {
  if (typeof engine === "object") return [engine.name.split("/")[0] ?? ""];
  return engine === "auto" ? ["tfjs", "onnxruntime"] : [engine];
}

export const Device = { open };
export type Device = Opened;
