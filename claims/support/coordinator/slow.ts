import { randomBytes } from "node:crypto";
import { type Device, openDevice } from "@tutti/client-sdk/device";
import type { Link } from "@tutti/client-sdk/link";
import { nativeAgree } from "@tutti/client-sdk/node/agree";
import { readConfig, readIdentity, readPolicy } from "@tutti/client-sdk/node/folder";
import { connect } from "@tutti/client-sdk/node/grpc";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { memorySpending } from "@tutti/client-sdk/private";
import { memoryStore } from "@tutti/client-sdk/store";
import { systemClock } from "@tutti/foundation/clock";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { mlp } from "@tutti/graph/make/mlp";
import { write } from "@tutti/graph/write";
import { parseRunFile } from "@tutti/plan/plan";
import { memoryLedger } from "@tutti/secagg/device/member";
import type { UploadPart } from "@tutti/wire/secagg";
import { type PreparedRun, resolveRun } from "tutti/prepare";
import { CLASSES, FEATURES, noopData, noopEngine, noopRuntime } from "./noop.ts";

/** How one upload's parts leave the device, with the link that they would take. */
export type Sending = (link: Link, parts: AsyncIterable<UploadPart>) => ReturnType<Link["upload"]>;

/** A device of this process whose coordinator is behind `port`: the SDK's own but for the training. */
export async function openSlow(folder: string, port: number, sending: Sending) {
  const config = { ...(await readConfig(folder)), address: `127.0.0.1:${port}`, addresses: [] };
  const identity = await readIdentity(folder, config);
  const clock = systemClock();
  const open = () => connect({ ...config, key: identity.key, clock });
  const link = open();
  const refused: string[] = [];
  const shares: number[] = [];
  const device: Device = await openDevice({
    identity,
    policy: await readPolicy(folder),
    data: noopData,
    folder: "",
    link: {
      ...link,
      upload: (parts) => sending(link, parts),
    },
    store: memoryStore(),
    ledger: memoryLedger(),
    spending: memorySpending(),
    engine: async () => noopEngine("slow"),
    runtime: noopRuntime,
    clock,
    jitter: seededRandom(randomBytes(16).toString("hex")),
    secret: platformRandom(),
    verify: nativeVerify(),
    agree: nativeAgree,
    events: (event) => {
      if (event.kind === "refused") refused.push(event.because.message);
      if (event.kind === "activity" && event.activity === "uploading") shares.push(event.progress);
    },
  });
  return { device, open, refused, shares };
}

/** Rounds of training whose packed update has about 4 MB, without masks: what is measured is the link. */
export function largeRun(name: string, rounds: number): PreparedRun {
  const random = seededRandom("claims/coordinator/slow-link");
  const base = write(mlp({ inputs: FEATURES, hidden: [1300, 1300], outputs: CLASSES, random }));
  const file = parseRunFile({
    name,
    base: "base.onnx",
    adapter: { method: "fedit", rank: RANK, alpha: 2, targets: "all-linear" },
    loss: "softmax-cross-entropy",
    train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 1, batchSize: 8 },
    rounds,
    cohort: { min: 2, max: 2 },
    secureAggregation: { enabled: false },
    seed: 7,
  });
  return resolveRun(file, base);
}

const RANK = 256;
