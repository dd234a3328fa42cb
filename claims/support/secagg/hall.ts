import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { join } from "@tutti/client-sdk/node/join";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { mlp } from "@tutti/graph/make/mlp";
import { write } from "@tutti/graph/write";
import { joinFileText } from "@tutti/identity/join";
import { parseRunFile } from "@tutti/plan/plan";
import { signPlan } from "@tutti/release/plan";
import { stageNow } from "@tutti/round/cohorts";
import { type PreparedRun, resolveRun } from "tutti/prepare";
import { Child } from "../round/child.ts";
import type { DevicesSaid } from "./devices.ts";

/** A federation on loopback: the coordinator in this process, its devices in some others. */
export type Hall = {
  /** Runs `rounds` rounds; how long each took, by phase, in milliseconds. `onPhase` is told of each. */
  rounds(prepared: PreparedRun, onPhase?: OnPhase): Promise<Lap[]>;
};

/** A round's number and its phase: "0 share". */
type OnPhase = (phase: string) => void;

/** One round: its phases in order, and milliseconds in each. */
export type Lap = ReadonlyMap<string, number>;

export type HallOptions = {
  readonly devices: number;
  readonly processes: number;
  /** Where the first device finds the coordinator, if something stands between. */
  readonly through?: (address: string) => Promise<string>;
};

export async function withHall<T>(
  { devices, processes, through }: HallOptions,
  body: (hall: Hall) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(path(tmpdir(), "tutti-claim-"));
  const children: Child<DevicesSaid>[] = [];
  let server: Server | undefined;
  try {
    const federation = path(folder, "federation");
    const about = { folder: federation, name: "claims", host: "127.0.0.1", port: 0 };
    await initFederation({ ...about, random: platformRandom(), nowMs: Date.now() });
    server = await serveFederation({ folder: federation });
    const { address } = server;
    const folders: string[] = [];
    for (let i = 0; i < devices; i++) {
      const to = i === 0 && through ? await through(address) : address;
      folders.push(await enrol(folder, { federation, address: to, at: i }));
    }
    await mkdir(path(folder, "logs"));
    for (let at = 0; at < processes; at++) {
      const own = folders.filter((_, i) => i % processes === at);
      const log = path(folder, "logs", `${at}.log`);
      children.push(new Child(new URL("./devices.ts", import.meta.url), { folders: own }, log));
    }
    const serving = server;
    const lost = Promise.race(children.map(({ ended }) => ended)).then(() => {
      throw new Error("a device process ended");
    });
    const work = async () => {
      while (serving.coordinator.presence.present().length < devices) await sleep(20);
      return await body({ rounds: (prepared, onPhase) => run(serving, { federation, prepared, onPhase }) });
    };
    return await Promise.race([work(), lost]);
  } finally {
    await Promise.all(children.map((child) => child.kill()));
    await server?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A run whose update has about `length` coordinates: LoRA on a perceptron that nobody trains. */
export function idleRun({
  devices,
  rounds,
  bits,
}: {
  devices: number;
  rounds: number;
  bits?: number;
}): PreparedRun {
  const random = seededRandom("claims/secagg");
  const base = write(mlp({ inputs: 8, hidden: [1557], outputs: 4, random }));
  const file = parseRunFile({
    name: "idle",
    base: "base.onnx",
    adapter: { method: "fedit", rank: 32, alpha: 32, targets: "all-linear" },
    loss: "softmax-cross-entropy",
    train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 1, batchSize: 1 },
    rounds,
    cohort: { min: devices, max: devices },
    ...(bits && { secureAggregation: { bits } }),
    // A machine that has other work must not fail the claim.
    deadlines: { stageMs: 120_000 },
  });
  return resolveRun(file, base);
}

async function enrol(
  folder: string,
  { federation, address, at }: { federation: string; address: string; at: number },
): Promise<string> {
  const random = platformRandom();
  const name = `device-${at}`;
  const token = await createToken({ folder: federation, name, days: 1, random, nowMs: Date.now() });
  const own = path(folder, name);
  await join({ joinFile: joinFileText({ ...token, address }), folder: own, random });
  return own;
}

async function run(
  { coordinator }: Server,
  {
    federation,
    prepared,
    onPhase,
  }: { federation: string; prepared: PreparedRun; onPhase?: OnPhase | undefined },
): Promise<Lap[]> {
  const laps: Map<string, number>[] = [];
  let [since, phase] = [performance.now(), ""];
  const unwatch = coordinator.watch(() => {
    const driver = coordinator.drivers().at(-1);
    const { round } = driver ?? {};
    const now = performance.now();
    const inside = round?.phase === "summing" ? stageNow(round.cohorts) : (round?.phase ?? "over");
    const next = `${driver?.header.round} ${inside}`;
    if (next === phase) return;
    onPhase?.(next);
    const [at, name] = phase.split(" ");
    if (name !== undefined) {
      const lap = laps[Number(at)] ?? new Map<string, number>();
      laps[Number(at)] = lap.set(name, (lap.get(name) ?? 0) + now - since);
    }
    [since, phase] = [now, next];
  });
  try {
    for (const bytes of [prepared.base, prepared.initial]) await coordinator.parts.artifacts.putBytes(bytes);
    const started = await coordinator.startRun(signPlan(prepared.plan, await openOwner(federation)));
    while (coordinator.driver(started).header.state === "running") await sleep(20);
    const { state, reason } = coordinator.driver(started).header;
    if (state !== "finished") throw new Error(`the run ended as ${state}: ${reason}`);
    return laps.slice(0, prepared.plan.rounds);
  } finally {
    unwatch();
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
