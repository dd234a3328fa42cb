import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { subset } from "@tutti/client-sdk/examples";
import { Device } from "@tutti/client-sdk/node/device";
import { join as enrol } from "@tutti/client-sdk/node/join";
import { parsePolicy, policyText } from "@tutti/client-sdk/policy";
import { METRICS } from "@tutti/plan/metrics";
import type { Plan } from "@tutti/plan/plan";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import { gridFor, realised } from "@tutti/privacy/grid";
import type { Examples } from "@tutti/train/batches";
import type { PreparedRun } from "tutti/prepare";
import { oneThread } from "../learn-engine.ts";
import { type TestFederation, withFederation } from "../learn-federation.ts";
import { DELTA, withNoise } from "./sweep.ts";
import type { LearningTask } from "./tasks.ts";

const [DEVICES, ROUNDS, EPSILON] = [8, 3, 8] as const;
const NAMES = Array.from({ length: DEVICES }, (_, at) => `ward-${at + 1}`);

type Spent = { readonly rho: number; readonly epsilon: number };

export type Federated = {
  readonly devices: number;
  readonly rounds: number;
  /** What the last release claims; the same from plan and cohort sizes alone; how far both are apart. */
  readonly manifest: Spent;
  readonly accountant: Spent;
  readonly difference: number;
  /** Of all devices' ledgers, the one that has counted least. */
  readonly leastLedger: Spent;
  /** Commands of `tutti` that found manifest and rounds good. */
  readonly verified: readonly string[];
};

/**
 * Eight devices of the SDK and a coordinator in a process of its own, gRPC and masks between them: three
 * rounds of heart under noise, each device with a budget that is just what the plan takes.
 */
export async function federate(task: LearningTask, report: (line: string) => void): Promise<Federated> {
  return withFederation(report, async (federation) => {
    const devices = [];
    for (const [at, name] of NAMES.entries())
      devices.push(await openDevice(federation, name, rowsOf(task, at)));
    const stop = new AbortController();
    const taking = devices.map((device) => device.participate({ once: false, signal: stop.signal }));
    try {
      const prepared = withNoise(smaller(await task.prepare(1)), EPSILON);
      const { status } = await federation.train(prepared);
      const sums = status.history.filter(({ release }) => release !== "").map(({ survivors }) => survivors);
      const accountant = countedBy(prepared.plan, sums);
      return {
        devices: DEVICES,
        rounds: ROUNDS,
        accountant,
        ...(await asked(federation, status.run, accountant)),
      };
    } finally {
      stop.abort();
      await Promise.allSettled(taking);
      await Promise.all(devices.map((device) => device.close()));
    }
  });
}

function rowsOf({ train }: LearningTask, device: number): Examples {
  const rows = Array.from({ length: train.count }, (_, row) => row);
  return subset(
    train,
    rows.filter((row) => row % DEVICES === device),
  );
}

function smaller(prepared: PreparedRun): PreparedRun {
  const { plan } = prepared;
  const cohort = { ...plan.cohort, min: DEVICES, max: DEVICES };
  return { ...prepared, plan: { ...plan, cohort, rounds: ROUNDS } };
}

function home({ folder }: TestFederation, name: string): string {
  return join(folder, name);
}

/** A device with a policy that lets it give away just so much, and only with noise that it shares. */
async function openDevice(federation: TestFederation, name: string, data: Examples): Promise<Device> {
  const folder = home(federation, name);
  await enrol({ joinFile: await readFile(await federation.token(name), "utf8"), folder });
  const file = join(folder, "policy.json");
  const privacy = { epsilon: EPSILON, delta: DELTA, modes: ["distributed"] };
  await writeFile(file, policyText({ ...parsePolicy(await readFile(file, "utf8")), privacy }));
  return Device.open({ folder, data, engine: oneThread() });
}

/**
 * ρ and ε of sums with so many survivors each, from the plan's numbers alone: docs/privacy.md, How it is
 * counted.
 */
function countedBy({ privacy, update, tensors, secureAggregation }: Plan, sums: readonly number[]): Spent {
  const corrupt = Math.ceil(DEVICES / 3) - 1;
  const quorum = Math.floor((DEVICES + corrupt) / 2) + 1;
  const numbers = tensors.map(({ shape }) => shape.reduce((size, side) => size * side, 1));
  const { mode, noiseMultiplier } = privacy!;
  const grid = gridFor({
    ...{ bits: secureAggregation.bits, clip: update.clipNorm, mode, noiseMultiplier },
    ...{ devices: DEVICES, honest: quorum - corrupt },
    dimension: numbers.reduce((sum, size) => sum + size, METRICS.length),
  });
  const rho = sums.reduce((sum, survivors) => sum + realised(grid, survivors, corrupt).rho, 0);
  return { rho, epsilon: epsilonOfRho(rho, DELTA) };
}

/** What the release claims and the ledgers hold, as `tutti` tells them. */
async function asked(federation: TestFederation, run: string, accountant: Spent) {
  const { folder, processes } = federation;
  const release = join(folder, "releases", run);
  const [manifest, trust] = [
    join(release, "manifest.json"),
    ["--join", join(folder, `${NAMES[0]}.join.json`)],
  ];
  const round = join(release, `round-${ROUNDS - 1}`);
  await processes.run("verify", [
    "verify",
    manifest,
    ...trust,
    "--adapter",
    join(release, "adapter.safetensors"),
  ]);
  await processes.run("verify-round", [
    ...["verify-round", `${round}.transcript`, "--manifest", manifest, ...trust],
    ...["--sum", `${round}.sum`, "--parent", `${round}.parent.safetensors`],
    ...["--adapter", join(release, "adapter.safetensors")],
  ]);
  const spent = (name: string, args: readonly string[]) =>
    processes.start(name, ["privacy", "spent", ...args]);
  const { privacy } = (await spent("claimed", ["--manifest", manifest, ...trust])) as { privacy: Spent };
  const ledgers: Spent[] = [];
  for (const name of NAMES) {
    const { runs } = (await spent(`spent-${name}`, ["--folder", home(federation, name)])) as {
      runs: Spent[];
    };
    ledgers.push(runs[0]!);
  }
  const { rho, epsilon } = ledgers.reduce((least, next) => (next.rho < least.rho ? next : least));
  const apart = [privacy.rho - accountant.rho, privacy.epsilon - accountant.epsilon].map(Math.abs);
  return {
    manifest: { rho: privacy.rho, epsilon: privacy.epsilon },
    difference: Math.max(...apart),
    leastLedger: { rho, epsilon },
    verified: ["verify", "verify-round"],
  };
}
