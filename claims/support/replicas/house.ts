import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join as path } from "node:path";
import { connect } from "@tutti/client-sdk/node/grpc";
import { join } from "@tutti/client-sdk/node/join";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { newTls } from "@tutti/coordinator/folder/tls";
import { createToken } from "@tutti/coordinator/folder/token";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import type { RunStatus } from "@tutti/wire/admin";
import { HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { asOwner, startPrepared } from "tutti/owner";
import type { PreparedRun } from "tutti/prepare";
import { freePort } from "../free-port.ts";
import { Cluster } from "../postgres/cluster.ts";
import { Child } from "../round/child.ts";
import { openedReleases } from "../round/house.ts";
import type { Rows } from "../round/recipe.ts";
import type { SiteArgs, SiteSaid } from "../round/site.ts";
import type { ReplicaArgs, ReplicaSaid } from "./coordinator.ts";
import { openWires, type Wire, type Wires } from "./wires.ts";

const REPLICAS = 3;
const POLL_MS = 50;

export type Replica = {
  readonly at: number;
  readonly folder: string;
  readonly address: string;
  readonly wire: Wire;
  child: Child<ReplicaSaid>;
};

/** A federation with three coordinators on one PostgreSQL, and its sites; each is a process. */
export class Replicas {
  readonly sites = new Map<string, Child<SiteSaid>>();
  /** Called with all that a site says. */
  onSite: (name: string, said: SiteSaid) => void = () => {};
  readonly replicas: Replica[] = [];
  readonly cluster: Cluster;
  readonly wires: Wires;
  readonly database: string;
  readonly #folder: string;

  private constructor(folder: string, parts: { cluster: Cluster; wires: Wires; database: string }) {
    this.#folder = folder;
    this.cluster = parts.cluster;
    this.wires = parts.wires;
    this.database = parts.database;
  }

  static async open(folder: string, rows: ReadonlyMap<string, Rows>): Promise<Replicas> {
    const port = await freePort();
    const wires = await openWires(REPLICAS, port);
    const cluster = await Cluster.open({ hosts: wires.hosts.join(","), port });
    const database = new URL(await cluster.database()).pathname.slice(1);
    const house = new Replicas(folder, { cluster, wires, database });
    await mkdir(path(folder, "logs"), { recursive: true });
    await house.#found();
    await Promise.all(house.replicas.map((replica) => house.serve(replica)));
    for (const [name, own] of rows) await house.#enrol(name, own);
    return house;
  }

  /** Where owners and tokens are. */
  get federation(): string {
    return this.replicas[0]!.folder;
  }

  /** Starts a coordinator, or starts it again on the same folder and port. */
  async serve(replica: Replica): Promise<void> {
    const args: ReplicaArgs = { folder: replica.folder };
    const to = { log: path(this.#folder, "logs", `${replica.at}.log`), through: replica.wire.through };
    replica.child = new Child(new URL("./coordinator.ts", import.meta.url), args, to);
    await replica.child.until((said) => said.kind === "serving");
  }

  /** Whoever answers among these, as soon as one does. */
  async answering(among: readonly Replica[]): Promise<Replica> {
    const { tls } = await openOwner(this.federation);
    const key = signingKey(newSeed(platformRandom()));
    const links = among.map(({ address }) => connect({ address, tls, name: "nobody", key }));
    try {
      for (;;) {
        for (const [at, link] of links.entries()) {
          const signal = AbortSignal.timeout(1_000);
          const answered = link.hello(create(HelloRequestSchema), signal).then(
            () => true,
            () => false,
          );
          if (await answered) return among[at]!;
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    } finally {
      for (const link of links) link.close();
    }
  }

  async begin(prepared: PreparedRun): Promise<string> {
    return await asOwner(this.federation, (admin, owner) => startPrepared(admin, owner, prepared));
  }

  /** The run's status when it is over, and the adapter that it released. */
  async over(run: string): Promise<{ status: RunStatus; adapter: Uint8Array }> {
    return await asOwner(this.federation, async (admin, owner) => {
      for (;;) {
        const status = await admin.status({ $typeName: "tutti.v1.RunRequest", run });
        if (status.state !== "running") {
          const [, trained] = await openedReleases(admin, owner, run);
          return { status, adapter: trained?.adapter ?? new Uint8Array() };
        }
        await new Promise((resolve) => setTimeout(resolve, 2 * POLL_MS));
      }
    });
  }

  async close(): Promise<void> {
    const children = [...this.sites.values(), ...this.replicas.map(({ child }) => child)];
    await Promise.all(children.map((child) => child.kill()));
    await this.cluster.close();
    this.wires.close();
  }

  /** One folder for owners and the first coordinator, copies for the others; each has its own TLS key. */
  async #found(): Promise<void> {
    const { wires } = this.wires;
    const places = await Promise.all(
      wires.map(async (wire, at) => ({
        wire,
        at,
        port: await freePort(),
        folder: path(this.#folder, `c${at}`),
      })),
    );
    const [{ wire, port, folder: first }] = places as [(typeof places)[number]];
    const random = platformRandom();
    await initFederation({ folder: first, name: "claims", host: wire.host, port, random, nowMs: Date.now() });
    const addresses = places.map(({ wire, port }) => `${wire.host}:${port}`);
    for (const { folder } of places.slice(1)) {
      await cp(first, folder, { recursive: true });
      for (const name of ["authority", "owner/owner.key"]) await rm(path(folder, name), { recursive: true });
      const tls = await newTls({ name: "claims", host: "127.0.0.1", nowMs: Date.now() });
      await writeFile(path(folder, "coordinator/tls.key"), tls.key);
      await writeFile(path(folder, "coordinator/tls.pem"), tls.certificate);
    }
    await introduce(places.map(({ folder }) => path(folder, "coordinator")));
    await cp(path(first, "authority/authority.pub"), path(this.#folder, "authority.pub"));
    for (const { folder, ...place } of places) {
      await mkdir(path(folder, "authority"), { recursive: true });
      await cp(path(this.#folder, "authority.pub"), path(folder, "authority/authority.pub"));
      const file = path(folder, "tutti.json");
      const listen = { host: place.wire.host, port: place.port };
      const store = { engine: "postgres", url: this.cluster.url(this.database, place.wire.database) };
      const artifacts = { folder: path(this.#folder, "artifacts") };
      const config = { ...JSON.parse(await readFile(file, "utf8")), ...listen, listen, addresses };
      await writeFile(file, JSON.stringify({ ...config, store, artifacts }));
      const address = addresses[place.at]!;
      this.replicas.push({ at: place.at, folder, address, wire: place.wire, child: null as never });
    }
  }

  async #enrol(name: string, rows: Rows): Promise<void> {
    const random = platformRandom();
    const token = await createToken({ folder: this.federation, name, days: 1, random, nowMs: Date.now() });
    const folder = path(this.#folder, "sites", name);
    await join({ joinFile: joinFileText(token), folder, random });
    const args: SiteArgs = { name, folder, rows, inTurn: true };
    const program = new URL("../round/site.ts", import.meta.url);
    const child: Child<SiteSaid> = new Child(program, args, path(this.#folder, "logs", `${name}.log`));
    child.on((said) => this.onSite(name, said));
    this.sites.set(name, child);
    await child.until((said) => said.kind === "connected");
  }
}

/** Whichever leads first signs which TLS certificates are the federation's: each must know the others'. */
async function introduce(folders: readonly string[]): Promise<void> {
  const own = await Promise.all(folders.map((folder) => readFile(path(folder, "tls.pem"), "utf8")));
  for (const [at, folder] of folders.entries())
    await writeFile(path(folder, "peers.pem"), own.filter((_, other) => other !== at).join("\n"));
}
