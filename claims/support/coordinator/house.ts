import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { FILES } from "@tutti/client-sdk/node/folder";
import { join } from "@tutti/client-sdk/node/join";
import { type Policy, parsePolicy, policyText } from "@tutti/client-sdk/policy";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { asFault, type FaultCode } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { mlp } from "@tutti/graph/make/mlp";
import { write } from "@tutti/graph/write";
import { type JoinFile, joinFileText, parseJoinFile } from "@tutti/identity/join";
import { parseRunFile, type RunFileInput } from "@tutti/plan/plan";
import { openRelease } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import type { RunStatus } from "@tutti/wire/admin";
import { type AdminLink, asOwner, fetchArtifact, type Owner, releasesOf, startPrepared } from "tutti/owner";
import { type PreparedRun, resolveRun } from "tutti/prepare";
import { freePort } from "../free-port.ts";
import { Child } from "../round/child.ts";
import type { CoordinatorArgs, CoordinatorSaid } from "./coordinator.ts";
import type { DevicesArgs, DevicesSaid, DevicesTold } from "./devices.ts";
import { CLASSES, FEATURES } from "./noop.ts";

export type HouseOptions = {
  readonly devices: number;
  /** How many processes the devices share. */
  readonly processes: number;
  /** Whether the last device has the last process to itself. */
  readonly lastAlone?: boolean;
  readonly inMemory: boolean;
  readonly watch?: CoordinatorArgs["watch"];
  /** Of every site. */
  readonly policy?: Partial<Policy>;
  /** Of a device's certificate, by its number. */
  readonly labels?: (device: number) => Readonly<Record<string, string>>;
  /** Fields of tutti.json beside those that `init` writes. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Of the coordinator's process, in every life. */
  readonly environment?: Readonly<Record<string, string>>;
  /** The coordinator's program, where it is not the source beside this file. */
  readonly program?: URL;
};

export const COORDINATOR = new URL("./coordinator.ts", import.meta.url);

/** A federation on loopback that trains nothing: a coordinator process, and processes full of devices. */
export class House {
  readonly folder: string;
  readonly devices: Child<DevicesSaid>[] = [];
  readonly #folders: string[] = [];
  readonly #tokens = new Map<string, JoinFile>();
  /** All that devices said, in order. */
  readonly said: DevicesSaid[] = [];
  /** Called with all that a coordinator says, through its lives. */
  onCoordinator: (said: CoordinatorSaid) => void = () => {};
  readonly #options: HouseOptions;
  #coordinator: Child<CoordinatorSaid> | null = null;
  #admin: { readonly link: AdminLink; readonly owner: Owner; close(): void } | null = null;

  constructor(folder: string, options: HouseOptions) {
    this.folder = folder;
    this.#options = options;
  }

  get federation(): string {
    return path(this.folder, "federation");
  }

  get coordinator(): Child<CoordinatorSaid> {
    if (this.#coordinator === null) throw new Error("the coordinator was not started");
    return this.#coordinator;
  }

  /** Founds the federation; nothing runs yet. */
  async found(): Promise<void> {
    const about = { folder: this.federation, name: "chaos", host: "127.0.0.1", port: await freePort() };
    await initFederation({ ...about, random: platformRandom(), nowMs: Date.now() });
    const file = path(this.federation, "tutti.json");
    const config = JSON.parse(await readFile(file, "utf8")) as object;
    await writeFile(file, JSON.stringify({ ...config, ...this.#options.config }));
    await mkdir(path(this.folder, "logs"));
  }

  /** Starts the coordinator, again on the same port; resolves once it serves, or ends before. */
  async serve(environment: Readonly<Record<string, string>> = {}): Promise<"serving" | "ended"> {
    const args: CoordinatorArgs = { folder: this.federation, watch: this.#options.watch ?? "nothing" };
    const to = {
      log: path(this.folder, "logs", "coordinator.log"),
      environment: { ...this.#options.environment, ...environment },
    };
    const child = new Child<CoordinatorSaid>(this.#options.program ?? COORDINATOR, args, to);
    this.#coordinator = child;
    child.on((said) => this.onCoordinator(said));
    const serving = child.until((said) => said.kind === "serving").then(() => "serving" as const);
    return await Promise.race([serving, child.ended.then(() => "ended" as const)]);
  }

  /** Enrols every device and starts their processes; resolves when all have greeted the coordinator. */
  async populate(): Promise<void> {
    const { devices, processes } = this.#options;
    for (let at = 0; at < devices; at++)
      this.#folders.push(await this.enrol(`device-${at}`, this.#options.labels?.(at)));
    for (let at = 0; at < processes; at++) this.#start(at);
    await this.met(() => this.connected().size === devices);
  }

  /** Starts a process of devices that was killed; resolves when they have greeted the coordinator. */
  async revive(at: number): Promise<void> {
    const names = this.#namesIn(at);
    const from = this.said.length;
    this.#start(at);
    await this.met(() => names.every((name) => this.connected(from).has(name)));
  }

  /** What one device does instead of saying that it is ready. */
  tell(device: number, next: DevicesTold["next"]): void {
    this.devices[this.#placeOf(device)]?.tell({ device: `device-${device}`, next });
  }

  #start(at: number): void {
    const { inMemory } = this.#options;
    const folders = this.#folders.filter((_, i) => this.#placeOf(i) === at);
    const args: DevicesArgs = { folders, inMemory };
    const log = path(this.folder, "logs", `devices-${at}.log`);
    const child = new Child<DevicesSaid>(new URL("./devices.ts", import.meta.url), args, log);
    child.on((said) => this.said.push(said));
    this.devices[at] = child;
  }

  #namesIn(at: number): string[] {
    const all = this.#folders.map((_, i) => i);
    return all.filter((i) => this.#placeOf(i) === at).map((i) => `device-${i}`);
  }

  #placeOf(device: number): number {
    const { devices, processes, lastAlone } = this.#options;
    if (!lastAlone) return device % processes;
    return device === devices - 1 ? processes - 1 : device % (processes - 1);
  }

  /** Who greeted the coordinator, since so many things were said. */
  connected(from = 0): Set<string> {
    return new Set(this.said.slice(from).flatMap((said) => (said.kind === "connected" ? [said.device] : [])));
  }

  async enrol(name: string, labels: Readonly<Record<string, string>> = {}): Promise<string> {
    const random = platformRandom();
    const about = { folder: this.federation, name, labels, days: 1, random, nowMs: Date.now() };
    const token = await createToken(about);
    const folder = path(this.folder, "sites", name);
    await join({ joinFile: joinFileText(token), folder, random });
    const file = path(folder, FILES.policy);
    const policy = parsePolicy(await readFile(file, "utf8"));
    await writeFile(file, policyText({ ...policy, ...this.#options.policy }));
    return folder;
  }

  /** As a person would who was given a join file: again while the coordinator is away. */
  async enrolPatiently(name: string, folder = name): Promise<"joined" | FaultCode> {
    const random = platformRandom();
    const about = { folder: this.federation, name, days: 1, random, nowMs: Date.now() };
    const joinFile = joinFileText(this.#tokens.get(name) ?? (await createToken(about)));
    this.#tokens.set(name, parseJoinFile(joinFile));
    for (;;) {
      try {
        await join({ joinFile, folder: path(this.folder, "guests", folder), random });
        return "joined";
      } catch (error) {
        const { code } = asFault(error);
        if (!PASSING.has(code)) return code;
        await sleep(POLL_MS);
      }
    }
  }

  async asOwner<T>(body: (admin: AdminLink, owner: Owner) => Promise<T>): Promise<T> {
    this.#admin ??= await openAdmin(this.federation);
    return await body(this.#admin.link, this.#admin.owner);
  }

  /** Starts a run as its owner, asking again while the coordinator is away, as a person would. */
  async begin(prepared: PreparedRun): Promise<string> {
    return await this.patiently(async (admin, owner) => {
      const run = sha256Hex(signPlan(prepared.plan, owner).payload);
      // An earlier try may have been heard.
      const { runs } = await admin.listRuns({ $typeName: "tutti.v1.ListRunsRequest" });
      if (runs.some((known) => known.run === run)) return run;
      return await startPrepared(admin, owner, prepared);
    });
  }

  /** Does what may be done again until it is done. */
  async patiently<T>(body: (admin: AdminLink, owner: Owner) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await this.asOwner(body);
      } catch (error) {
        if (!PASSING.has(asFault(error).code)) throw error;
        await sleep(POLL_MS);
      }
    }
  }

  /** The run's status when it is over. */
  async over(run: string): Promise<RunStatus> {
    for (;;) {
      const status = await this.patiently((admin) => admin.status({ $typeName: "tutti.v1.RunRequest", run }));
      if (status.state !== "running") return status;
      await sleep(POLL_MS);
    }
  }

  /** The newest release of a run that is over: its version and its adapter. */
  async newest(run: string): Promise<{ version: number; adapter: Uint8Array }> {
    return await this.patiently(async (admin, { authority }) => {
      const { manifests } = await releasesOf(admin, run);
      const nowS = Math.floor(Date.now() / 1000);
      const { release } = openRelease(manifests.at(-1)!, { authority, nowS });
      return { version: release.version, adapter: await fetchArtifact(admin, release.adapter.sha256) };
    });
  }

  /** Waits until something is so; @throws after a minute and a half, since it never will be. */
  async met(holds: () => boolean | Promise<boolean>): Promise<void> {
    const sinceMs = performance.now();
    while (!(await holds())) {
      if (performance.now() - sinceMs > PATIENCE_MS) throw new Error("waited in vain");
      await sleep(POLL_MS / 2);
    }
  }

  async close(): Promise<void> {
    this.#admin?.close();
    await Promise.all(this.devices.map((child) => child.kill()));
    await this.#coordinator?.kill();
  }
}

const POLL_MS = 50;
/** What a person would try again after. */
const PASSING: ReadonlySet<FaultCode> = new Set<FaultCode>(["unavailable", "storage", "deadline"]);
const PATIENCE_MS = 90_000;

/** A house in a fresh folder; everything is gone when `body` is done, however it ends. */
export async function withHouse<T>(options: HouseOptions, body: (house: House) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path(tmpdir(), "tutti-claim-"));
  const house = new House(folder, options);
  try {
    await house.found();
    if ((await house.serve()) === "ended") throw new Error("the coordinator did not start");
    await house.populate();
    return await body(house);
  } finally {
    await house.close();
    if (process.env.TUTTI_KEEP) process.stderr.write(`kept ${folder}\n`);
    else await rm(folder, { recursive: true, force: true });
  }
}

/** A run on a perceptron with a few weights, whose update has a few dozen coordinates. */
export function noopRun(change: Omit<Partial<RunFileInput>, "seed"> & { name: string }): PreparedRun {
  const random = seededRandom("claims/coordinator");
  const base = write(mlp({ inputs: FEATURES, hidden: [4], outputs: CLASSES, random }));
  const file = parseRunFile({
    base: "base.onnx",
    adapter: { method: "fedit", rank: 1, alpha: 2, targets: "all-linear" },
    loss: "softmax-cross-entropy",
    train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 1, batchSize: 8 },
    rounds: 1,
    cohort: { min: 3, max: 3 },
    seed: 7,
    ...change,
  });
  return resolveRun(file, base);
}

async function openAdmin(federation: string) {
  let close = () => {};
  const open = new Promise<{ link: AdminLink; owner: Owner }>((resolve, reject) => {
    const held = new Promise<void>((ended) => {
      close = ended;
    });
    asOwner(federation, (link, owner) => {
      resolve({ link, owner });
      return held;
    }).catch(reject);
  });
  return { ...(await open), close: () => close() };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
