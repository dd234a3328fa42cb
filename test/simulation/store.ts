import { checkChain } from "@tutti/audit/chain";
import { AUDIT_OWNER } from "@tutti/coordinator/store/audit";
import { type Driver, openDriver } from "@tutti/coordinator/store/driver";
import type { Engine } from "@tutti/coordinator/store/engine";
import { migrate, readMigrations } from "@tutti/coordinator/store/migrate";
import type { Schema } from "@tutti/coordinator/store/schema";
import { type Change, leadHere, type Store, type StoredRun } from "@tutti/coordinator/store/store";
import { Fault } from "@tutti/foundation/fault";
import { Kysely, SqliteDialect, sql } from "kysely";
import type { Disk } from "./disk.ts";

const migrations = await readMigrations();

/**
 * The coordinator's database: the real store's own code over SQLite in memory, which outlives every process.
 * What a disk and a crash add to it, `openSimulatedStore` does.
 */
export class Database {
  readonly #driver: Driver = openDriver(":memory:");
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
      get nowMs() {
        return sql<number>`${Math.floor(wallMs())}`;
      },
      locksRows: false,
      alone: async () => {},
      faultOf: (cause, what) => (cause instanceof Fault ? cause : new Fault("storage", what, { cause })),
      hint: async () => {},
      onHint: () => {},
      integrity: async () => true,
      close: async () => {},
    };
  }

  /** What is wrong with the audit log's chain; null where it is whole. */
  async auditTrouble(): Promise<string | null> {
    const store = await leadHere(this.engine, () => 0);
    const head = await store.auditHead();
    const lines = await store.auditLines({ from: 0, most: head.count });
    try {
      checkChain(lines, { owner: AUDIT_OWNER, remembered: [head] });
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  }

  close(): void {
    this.#driver.close();
  }
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
