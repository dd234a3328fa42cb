import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { Kysely } from "kysely";
import { failpoint } from "../failpoint.ts";
import { type Change, commit, journalOf } from "./commit.ts";
import { type OpenOptions, openSqlite } from "./open.ts";
import type { Schema } from "./schema.ts";

export type Device = {
  readonly name: string;
  readonly certificate: Uint8Array;
  readonly revoked: boolean;
};
export type NewDevice = {
  readonly name: string;
  readonly serial: Uint8Array;
  readonly certificate: Uint8Array;
};
export type StoredRun = {
  readonly run: string;
  readonly name: string;
  /** The signed plan's bytes. */
  readonly plan: Uint8Array;
  readonly header: Uint8Array;
  readonly state: string;
};
export type StoredRelease = {
  readonly version: number;
  readonly digest: string;
  readonly envelope: Uint8Array;
};
export type StoredSum = { readonly cohort: number; readonly words: Uint8Array };
export type Journal = {
  /** In the order of their sequence numbers. */
  readonly entries: readonly Uint8Array[];
  /** The running sums of cohorts, by their number. */
  readonly sums: readonly StoredSum[];
};

/**
 * What a coordinator must not forget. Every write is one transaction and durable when its promise resolves; a
 * Fault("storage") means "unknown", so a writer reads again before it goes on (docs/reliability.md, promise
 * 1).
 */
export type Store = {
  /**
   * The same bytes again: fine. @throws Fault("conflict") for a name or serial that another certificate has.
   */
  addDevice(device: NewDevice): Promise<void>;
  device(name: string): Promise<Device | undefined>;
  devices(): Promise<Device[]>;
  /** No request of this device is taken any more; false where there is none. */
  revokeDevice(name: string): Promise<boolean>;
  /** @throws Fault("conflict") for a run that is there already. */
  addRun(run: StoredRun): Promise<void>;
  run(run: string): Promise<StoredRun | undefined>;
  /** In the order they were added. */
  runs(): Promise<StoredRun[]>;
  journal(run: string): Promise<Journal>;
  /**
   * All of a change or nothing. @throws Fault("not-found") for an unknown run; Fault("conflict") where a
   * sequence number or a release's version holds other bytes already (the same bytes again: fine).
   */
  commit(run: string, change: Change): Promise<void>;
  /** By version, oldest first. */
  releases(run: string): Promise<StoredRelease[]>;
  /** Whether the file is whole: SQLite's own check, and every reference. */
  integrity(): Promise<boolean>;
  close(): Promise<void>;
};

export type { Change, OpenOptions };

/** Opens the store, made if absent. One process at a time: a second one gets a Fault("storage"). */
export async function openStore(options: OpenOptions): Promise<Store> {
  const { db, driver, close } = await openSqlite(options);
  const nowMs = options.nowMs ?? Date.now;
  const store: Store = {
    addDevice: (device) => addDevice(db, device, nowMs()),
    async device(name) {
      return (await selectDevices(db).where("name", "=", name).execute()).map(deviceOf)[0];
    },
    devices: async () => (await selectDevices(db).orderBy("name").execute()).map(deviceOf),
    async revokeDevice(name) {
      failpoint("store.revoke.before");
      const done = await db
        .updateTable("devices")
        .set({ revoked: 1 })
        .where("name", "=", name)
        .executeTakeFirst();
      failpoint("store.revoke.durable");
      return done.numUpdatedRows > 0n;
    },
    addRun: (run) => addRun(db, run, nowMs()),
    run: (run) => selectRuns(db).where("run", "=", run).executeTakeFirst(),
    runs: () => selectRuns(db).orderBy("added_ms").execute(),
    journal: (run) => journalOf(db, run),
    commit: (run, change) => commit(db, run, change),
    releases: (run) =>
      db
        .selectFrom("releases")
        .select(["version", "digest", "envelope"])
        .where("run", "=", run)
        .orderBy("version")
        .execute(),
    integrity: async () => {
      const [check] = driver.prepare("pragma integrity_check").all([]) as { integrity_check: string }[];
      return (
        check?.integrity_check === "ok" && driver.prepare("pragma foreign_key_check").all([]).length === 0
      );
    },
    close: async () => close(),
  };
  return guarded(store);
}

function selectDevices(db: Kysely<Schema>) {
  return db.selectFrom("devices").select(["name", "certificate", "revoked"]);
}

function deviceOf(row: { name: string; certificate: Uint8Array; revoked: number }): Device {
  return { ...row, revoked: row.revoked !== 0 };
}

function selectRuns(db: Kysely<Schema>) {
  return db.selectFrom("runs").select(["run", "name", "plan", "header", "state"]);
}

async function addDevice(db: Kysely<Schema>, device: NewDevice, nowMs: number): Promise<void> {
  const { name, serial, certificate } = device;
  failpoint("store.device.before");
  await db.transaction().execute(async (tx) => {
    const there = await tx
      .selectFrom("devices")
      .select(["name", "certificate"])
      .where((at) => at.or([at("name", "=", name), at("serial", "=", serial)]))
      .execute();
    if (there.length === 0) {
      await tx.insertInto("devices").values({ name, serial, certificate, added_ms: nowMs }).execute();
      failpoint("store.device.inside");
      return;
    }
    const same = there.every((row) => row.name === name && equalBytes(row.certificate, certificate));
    if (!same)
      throw new Fault("conflict", `device ${name}`, {
        expected: "a token that was not used",
        got: "one that another key enrolled with",
        todo: "Ask for a new join file",
      });
  });
  failpoint("store.device.durable");
}

async function addRun(db: Kysely<Schema>, run: StoredRun, nowMs: number): Promise<void> {
  failpoint("store.run.before");
  await db.transaction().execute(async (tx) => {
    const there = await tx.selectFrom("runs").select("run").where("run", "=", run.run).executeTakeFirst();
    if (there)
      throw new Fault("conflict", `run ${run.run.slice(0, 12)}`, {
        expected: "a new run",
        got: "a known one",
      });
    const newest = await tx
      .selectFrom("runs")
      .select(({ fn }) => fn.max<number | null>("added_ms").as("ms"))
      .executeTakeFirst();
    // Runs keep their order though the wall clock may step back.
    const added_ms = Math.max(nowMs, (newest?.ms ?? 0) + 1);
    await tx
      .insertInto("runs")
      .values({ ...run, added_ms })
      .execute();
    failpoint("store.run.inside");
  });
  failpoint("store.run.durable");
}

/** Whatever the engine throws becomes a Fault("storage"); Faults of our own pass. */
function guarded(store: Store): Store {
  const wrap =
    <A extends unknown[], R>(what: string, method: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      try {
        return await method(...args);
      } catch (cause) {
        throw cause instanceof Fault ? cause : new Fault("storage", what, { got: messageOf(cause), cause });
      }
    };
  return {
    addDevice: wrap("adding a device", store.addDevice),
    device: wrap("reading a device", store.device),
    devices: wrap("reading devices", store.devices),
    revokeDevice: wrap("revoking a device", store.revokeDevice),
    addRun: wrap("adding a run", store.addRun),
    run: wrap("reading a run", store.run),
    runs: wrap("reading runs", store.runs),
    journal: wrap("reading the journal", store.journal),
    commit: wrap("committing", store.commit),
    releases: wrap("reading releases", store.releases),
    integrity: wrap("checking integrity", store.integrity),
    close: wrap("closing", store.close),
  };
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
