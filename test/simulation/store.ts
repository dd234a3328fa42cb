import { checkChain } from "@tutti/audit/chain";
import { AUDIT_OWNER } from "@tutti/coordinator/store/audit";
import type { Engine } from "@tutti/coordinator/store/engine";
import { migrate, readMigrations } from "@tutti/coordinator/store/migrate";
import type { Schema } from "@tutti/coordinator/store/schema";
import { openSqliteDriver, type SqliteDriver } from "@tutti/coordinator/store/sqlite-driver";
import { type Change, leadHere, type Store, type StoredRun } from "@tutti/coordinator/store/store";
import { Fault } from "@tutti/foundation/fault";
import { type RunHeader, RunHeaderSchema } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import { Kysely, SqliteDialect, sql } from "kysely";
import type { Disk } from "./disk.ts";

const migrations = await readMigrations();

/**
 * The coordinator's database: the real store's own code over SQLite in memory, which outlives every process.
 * What a disk and a crash add to it, `openSimulatedStore` does.
 */
export class Database {
  readonly #driver: SqliteDriver = openSqliteDriver(":memory:");
  readonly engine: Engine;
  /** Whom it has enrolled, and every run. */
  readonly devices = new Set<string>();
  readonly runs = new Map<string, StoredRun>();
  /** Of whom a revocation was begun. */
  readonly revoked = new Set<string>();
  /** Releases that rounds made. */
  releases = 0;
  /** Told of each change once it is durable. */
  onCommit: (run: string, change: Change) => void = () => {};

  constructor(wallMs: () => number) {
    this.#driver.prepare("pragma foreign_keys = on").all([]);
    migrate(this.#driver, migrations);
    const db = new Kysely<Schema>({ dialect: new SqliteDialect({ database: this.#driver }) });
    this.engine = {
      name: "sqlite",
      db,
      leases: db,
      session: "",
      holderLeft: sql<boolean>`0`,
      get nowMs() {
        return sql<number>`${Math.floor(wallMs())}`;
      },
      locksRows: false,
      alone: async () => {},
      faultOf: (cause, what) => (cause instanceof Fault ? cause : new Fault("storage", what, { cause })),
      hint: async () => {},
      onHint: () => {},
      onLeft: () => {},
      integrity: async () => true,
      close: async () => {},
    };
  }

  /** What is wrong with its audit log, or with what it remembers of devices; null where all is well. */
  async trouble(): Promise<string | null> {
    const store = await leadHere(this.engine, () => 0);
    const head = await store.auditHead();
    const lines = await store.auditLines({ from: 0, most: head.count });
    try {
      checkChain(lines, { owner: AUDIT_OWNER, remembered: [head] });
    } catch (error) {
      return (error as Error).message;
    }
    for (const { run, header } of await store.runs()) {
      const closed = decode(RunHeaderSchema, header, 1 << 22);
      const trouble = (await unnoted(store, run, lines)) ?? (await forgotten(store, run, closed));
      if (trouble) return trouble;
    }
    return null;
  }

  close(): void {
    this.#driver.close();
  }
}

/** A release, or a run's end, of which the audit log does not tell. */
async function unnoted(store: Store, run: string, lines: readonly string[]): Promise<string | null> {
  const has = (what: string, subject: string) =>
    lines.some((line) => line.includes(`"${what}"`) && line.includes(subject));
  const releases = (await store.releases(run)).filter(({ version }) => version > 0);
  const lost = releases.find(({ digest }) => !has("release.published", digest));
  return lost ? `release ${lost.version} is not in the audit log` : null;
}

/** A round with a result whose devices the store does not remember. */
async function forgotten(store: Store, run: string, { history }: RunHeader): Promise<string | null> {
  const took = (await store.participations(run)).reduce((sum, { rounds }) => sum + rounds, 0);
  const gave = history.reduce((sum, { survivors }) => sum + survivors, 0);
  // What was given in an attempt that failed counts, too.
  return took >= gave ? null : `run ${run.slice(0, 8)} remembers ${took} of ${gave} vectors`;
}

/** Every other operation only reads. */
const WRITES = new Set([
  "addDevice",
  "addRun",
  "commit",
  "forgetEntries",
  "forgetFile",
  "forgetRows",
  "note",
  "removeFile",
  "askRenewal",
  "grantRenewal",
  "renew",
  "putStatement",
  "revoke",
]);

/**
 * One process's store, under the next epoch: every operation takes its time, may fail, and may be the last
 * thing it does.
 */
export async function openSimulatedStore(base: Database, disk: Disk, wallMs: () => number): Promise<Store> {
  const store = await disk.write("taking the lease", () => leadHere(base.engine, wallMs));
  const noted: Store = {
    ...store,
    async addDevice(device) {
      await store.addDevice(device);
      base.devices.add(device.name);
    },
    async addRun(run) {
      await store.addRun(run);
      base.runs.set(run.run, run);
    },
    async commit(run, change) {
      await store.commit(run, change);
      if (change.release && change.release.version > 0) base.releases++;
      base.onCommit(run, change);
    },
  };
  const trust = {
    ...store.trust,
    async revoke(...about: Parameters<typeof store.trust.revoke>) {
      base.revoked.add(about[0]);
      return await store.trust.revoke(...about);
    },
  };
  return { ...slowed(noted, disk), trust: slowed(trust, disk), close: async () => {} };
}

type Operation = (...given: unknown[]) => Promise<unknown>;

/** The object with each of its operations through a disk. */
function slowed<T extends object>(operations: T, disk: Disk): T {
  const through = Object.entries(operations).map(([name, value]): [string, unknown] => {
    if (typeof value !== "function") return [name, value];
    const operation = value as Operation;
    const way = WRITES.has(name) ? disk.write.bind(disk) : disk.read.bind(disk);
    return [name, (...given: unknown[]) => way(name, () => operation(...given))];
  });
  return Object.fromEntries(through) as T;
}
