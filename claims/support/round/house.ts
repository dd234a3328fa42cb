import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join as path } from "node:path";
import { FILES } from "@tutti/client-sdk/node/folder";
import { join } from "@tutti/client-sdk/node/join";
import { parsePolicy, policyText } from "@tutti/client-sdk/policy";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { asFault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { type OpenedRelease, openRelease } from "@tutti/release/manifest";
import type { RunStatus } from "@tutti/wire/admin";
import { type AdminLink, asOwner, fetchArtifact, type Owner, releasesOf, startPrepared } from "tutti/owner";
import type { PreparedRun } from "tutti/prepare";
import { freePort } from "../free-port.ts";
import { Child } from "./child.ts";
import type { Committed, CoordinatorArgs, CoordinatorSaid, CrashPoint } from "./coordinator.ts";
import type { Rows } from "./recipe.ts";
import type { Death, SiteArgs, SiteSaid } from "./site.ts";

export type HouseOptions = {
  /** Empty; everything is made in it. */
  readonly folder: string;
  readonly sites: ReadonlyMap<string, Rows>;
  readonly inTurn?: boolean;
  /** Where sites find the coordinator, if something stands between. */
  readonly through?: (federation: string, port: number) => Promise<string>;
  /** Whether every site's own policy allows sums without masks. */
  readonly plain?: boolean;
};

type CoordinatorProcess = Child<CoordinatorSaid>;
type SiteProcess = Child<SiteSaid>;

/** A federation on loopback: a coordinator process and a process per site, each of which may be killed. */
export class House {
  readonly sites = new Map<string, SiteProcess>();
  /** Durable changes in their order, through every restart of the coordinator. */
  readonly commits: (Committed & { readonly heardMs: number })[] = [];
  /** Called with all that a site says. */
  onSite: (name: string, said: SiteSaid) => void = () => {};
  #coordinator: CoordinatorProcess | null = null;
  #dead = false;
  readonly #options: HouseOptions;

  private constructor(options: HouseOptions) {
    this.#options = options;
  }

  /** Founds the federation, starts the coordinator, enrols and starts every site. */
  static async open(options: HouseOptions): Promise<House> {
    const house = new House(options);
    const port = await freePort();
    await mkdir(path(options.folder, "logs"), { recursive: true });
    const about = { folder: house.federation, name: "claims", host: "127.0.0.1", port };
    await initFederation({ ...about, random: platformRandom(), nowMs: Date.now() });
    await house.serve();
    const address = (await options.through?.(house.federation, port)) ?? `127.0.0.1:${port}`;
    for (const name of options.sites.keys()) await house.#enrol(name, address);
    await Promise.all([...options.sites.keys()].map((name) => house.startSite(name)));
    return house;
  }

  get federation(): string {
    return path(this.#options.folder, "federation");
  }

  /** Everything that was written to the store, one change after another. */
  get writes(): string {
    return path(this.#options.folder, "writes.bin");
  }

  get logs(): string {
    return path(this.#options.folder, "logs");
  }

  siteFolder(name: string): string {
    return path(this.#options.folder, "sites", name);
  }

  /** Starts the coordinator, or starts it again on the same folder and port. */
  async serve(): Promise<void> {
    const args: CoordinatorArgs = { folder: this.federation, writes: this.writes };
    const program = new URL("./coordinator.ts", import.meta.url);
    const child: CoordinatorProcess = new Child(program, args, path(this.logs, "coordinator.log"));
    this.#coordinator = child;
    child.on((said) => {
      if (said.kind === "committed") this.commits.push({ ...said, heardMs: performance.now() });
    });
    await child.until((said) => said.kind === "serving");
  }

  get coordinator(): CoordinatorProcess {
    if (this.#coordinator === null) throw new Error("the coordinator was not started");
    return this.#coordinator;
  }

  async startSite(name: string): Promise<void> {
    const { inTurn = false, sites } = this.#options;
    const rows = sites.get(name);
    if (!rows) throw new Error(`no site ${name}`);
    const args: SiteArgs = { name, folder: this.siteFolder(name), rows, inTurn };
    const child: SiteProcess = new Child(
      new URL("./site.ts", import.meta.url),
      args,
      path(this.logs, `${name}.log`),
    );
    child.on((said) => this.onSite(name, said));
    this.sites.set(name, child);
    await child.until((said) => said.kind === "connected");
  }

  /** Starts those again that were killed. */
  async revive(): Promise<void> {
    for (const [name, child] of this.sites) if (child.over) await this.startSite(name);
  }

  async armSite(name: string, at: Death): Promise<void> {
    const site = this.sites.get(name);
    site?.tell({ kind: "die", at });
    await site?.until((said) => said.kind === "armed");
  }

  async armCoordinator(at: CrashPoint): Promise<void> {
    this.coordinator.tell({ kind: "die", at });
    await this.coordinator.until((said) => said.kind === "armed");
  }

  /** Starts a run as its owner; returns its id. */
  async begin(prepared: PreparedRun): Promise<string> {
    return await asOwner(this.federation, (admin, owner) => startPrepared(admin, owner, prepared));
  }

  /** The run's status when it is over; a coordinator that is away meanwhile is waited for. */
  async over(run: string): Promise<RunStatus> {
    return await asOwner(this.federation, async (admin) => {
      while (!this.#dead) {
        try {
          const status = await admin.status({ $typeName: "tutti.v1.RunRequest", run });
          if (status.state !== "running") return status;
        } catch (error) {
          if (asFault(error).code !== "unavailable") throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
      throw new Error("the house was closed");
    });
  }

  /** Releases of a run, oldest first, and the adapter file of each. */
  async releases(run: string): Promise<(OpenedRelease & { readonly adapter: Uint8Array })[]> {
    return await asOwner(this.federation, async (admin, owner) => await openedReleases(admin, owner, run));
  }

  async close(): Promise<void> {
    this.#dead = true;
    await Promise.all([...this.sites.values()].map((site) => site.kill()));
    await this.#coordinator?.kill();
  }

  async #enrol(name: string, address: string): Promise<void> {
    const random = platformRandom();
    const token = await createToken({ folder: this.federation, name, days: 1, random, nowMs: Date.now() });
    const folder = this.siteFolder(name);
    await join({ joinFile: joinFileText({ ...token, address }), folder, random });
    if (this.#options.plain) await allowPlain(folder);
  }
}

const POLL_MS = 100;

export async function openedReleases(admin: AdminLink, { authority }: Owner, run: string) {
  const { manifests } = await releasesOf(admin, run);
  const nowS = Math.floor(Date.now() / 1000);
  const opened = manifests.map((manifest) => openRelease(manifest, { authority, nowS }));
  return await Promise.all(
    opened.map(async (one) => ({ ...one, adapter: await fetchArtifact(admin, one.release.adapter.sha256) })),
  );
}

/** A site's own decision, in its own file: sums without masks are fine. */
async function allowPlain(siteFolder: string): Promise<void> {
  const file = path(siteFolder, FILES.policy);
  const policy = parsePolicy(await readFile(file, "utf8"));
  await writeFile(file, policyText({ ...policy, requireSecureAggregation: false }));
}
