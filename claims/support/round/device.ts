import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { type Device, openDevice } from "@tutti/client-sdk/device";
import type { Listener } from "@tutti/client-sdk/events";
import type { Data } from "@tutti/client-sdk/examples";
import { nativeAgree } from "@tutti/client-sdk/node/agree";
import { nodeEngine } from "@tutti/client-sdk/node/engine";
import { FILES, readConfig, readIdentity, readPolicy } from "@tutti/client-sdk/node/folder";
import { connect } from "@tutti/client-sdk/node/grpc";
import { openLedger } from "@tutti/client-sdk/node/ledger";
import { onnxruntimeNode } from "@tutti/client-sdk/node/runtime";
import { openFolderStore } from "@tutti/client-sdk/node/store";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { memorySpending } from "@tutti/client-sdk/private";
import type { Site } from "@tutti/client-sdk/site";
import { systemClock } from "@tutti/foundation/clock";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { Task_Kind } from "@tutti/wire/round";
import { type Watch, watched } from "./link.ts";
import { type Truth, truthOf } from "./truth.ts";

export type WatchedOptions = {
  /** The folder that `join` made. */
  readonly folder: string;
  readonly data: Data;
  readonly watch: Watch;
  readonly events: Listener;
  /** Told before the device hears of a round of training what its words will be. */
  readonly onTruth: (truth: Truth) => Promise<void>;
};

/** What `Device.open` of client-sdk/node opens, over the same gRPC link, with somebody looking on. */
export async function openWatched(options: WatchedOptions): Promise<Device> {
  const { folder, data, watch, events, onTruth } = options;
  const config = await readConfig(folder);
  const identity = await readIdentity(folder, config);
  const clock = systemClock();
  const apart = await openFolderStore(join(folder, "truth"));
  const told = new Set<string>();
  const engine = nodeEngine("tfjs");
  const link = connect({ ...config, key: identity.key, clock });
  const hear: NonNullable<Watch["hear"]> = async (word) => {
    if (word.word.case === "invite") {
      const { task } = word.word.value;
      const key = `${task?.run} ${task?.round}`;
      if (task?.kind === Task_Kind.TRAIN && !told.has(key)) {
        told.add(key);
        await onTruth(await truthOf(word.word.value, { ...site, link, emit: () => {} }, apart));
      }
    }
    await watch.hear?.(word);
  };
  const site: Omit<Site, "emit"> = {
    identity,
    policy: await readPolicy(folder),
    data,
    folder: "",
    link: watched(link, { ...watch, hear }),
    store: await openFolderStore(folder),
    engine: () => engine,
    runtime: onnxruntimeNode(),
    clock,
    jitter: seededRandom(randomBytes(16).toString("hex")),
    secret: platformRandom(),
    ledger: openLedger(join(folder, FILES.rounds)),
    spending: memorySpending(),
    verify: nativeVerify(),
    agree: nativeAgree,
  };
  return await openDevice({ ...site, events });
}
