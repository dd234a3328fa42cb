import type { Head } from "@tutti/audit/chain";
import type { Note } from "@tutti/audit/entry";
import { equalBytes } from "@tutti/foundation/bytes";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Kysely } from "kysely";
import { failpoint } from "../failpoint.ts";
import { addNote, auditHead, auditLines, forgetEntries } from "./audit.ts";
import { type Change, commit, type Leading } from "./commit.ts";
import type { Engine, Tx } from "./engine.ts";
import { journalOf } from "./journal.ts";
import {
  type FileRemoval,
  filesBeyond,
  forgetFile,
  forgetRows,
  historyOf,
  type Kept,
  type KeptRows,
  removeFile,
  type StoredFile,
  type StoredRecord,
} from "./kept.ts";
import { mustLead, readLease, takeLease } from "./lease.ts";
import { type OpenOptions, openSqlite } from "./open.ts";
import type { Schema } from "./schema.ts";
import { type StoredParticipation, tookOf } from "./took.ts";
import { countAt, type TrustStore, trustStoreOf } from "./trust.ts";

export type Device = {
  readonly name: string;
  readonly certificate: Uint8Array;
  readonly revoked: boolean;
};
export type NewDevice = {
  readonly name: string;
  readonly serial: Uint8Array;
  readonly certificate: Uint8Array;
  /** Where it is, and how many there may be of; absent: no limit. */
  readonly site?: string;
  readonly siteLimit?: number;
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
 * Fault("storage") or Fault("unavailable") means "unknown", so a writer reads again before it goes on
 * (docs/reliability.md, promise 1).
 */
export type Store = {
  /** Under which it writes; every write is refused with Fault("unavailable") once another began. */
  readonly epoch: number;
  /**
   * The same bytes again: fine. @throws Fault("conflict") for a name or serial that another certificate has;
   * Fault("refused") where its site has as many devices as it may.
   */
  addDevice(device: NewDevice): Promise<void>;
  device(name: string): Promise<Device | undefined>;
  devices(): Promise<Device[]>;
  /** How trust in devices goes on and ends. */
  readonly trust: TrustStore;
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
  releases(run: string, page?: Page): Promise<StoredRelease[]>;
  newestRelease(run: string): Promise<StoredRelease | undefined>;
  /** Records that the header no longer holds, oldest first; with `kept`, older ones are gone. */
  history(run: string, page: Page): Promise<StoredRecord[]>;
  /** Some of the files of older rounds than the newest `kept` before `round`. */
  filesBeyond(run: string, about: { round: number; kept: Kept }): Promise<string[]>;
  /** Has a file removed, unless another run has it too, while nobody else can begin to lead. */
  removeFile(run: string, removal: FileRemoval): Promise<void>;
  /** Forgets a file that was removed. */
  forgetFile(run: string, sha256: string): Promise<void>;
  /** Removes some of the rows that are older than what is kept, oldest first; how many. */
  forgetRows(run: string, kept: KeptRows): Promise<number>;
  /** An entry of the audit log that belongs to no change of the store. */
  note(note: Note): Promise<void>;
  auditHead(): Promise<Head>;
  /** Removes some of the audit log's entries, but for so many of the newest, and notes it; how many. */
  forgetEntries(kept: number): Promise<number>;
  /** The audit log's lines from a number on, at most so many. */
  auditLines(range: { from: number; most: number }): Promise<string[]>;
  /** What a run remembers of the devices that it invited, by their names. */
  participations(run: string): Promise<StoredParticipation[]>;
  /** Whether the database is whole, as far as its engine can tell. */
  integrity(): Promise<boolean>;
  close(): Promise<void>;
};

export type { Change, Kept, KeptRows, OpenOptions, StoredFile, StoredParticipation };

/** From a version or place on, and how many at most. */
export type Page = { readonly from: number; readonly most: number };
const ALL: Page = { from: 0, most: 2 ** 31 - 1 };

/**
 * Opens the store in a SQLite file, made if absent, and begins its next epoch. One process at a time: a
 * second one gets a Fault("storage").
 */
export async function openStore(options: OpenOptions): Promise<Store> {
  const engine = await openSqlite(options);
  try {
    return await leadHere(engine, options.nowMs);
  } catch (cause) {
    await engine.close();
    throw cause;
  }
}

/** A store that writes under an epoch that was taken before (lease.ts); it closes its engine. */
export function storeOf(leading: Leading): Store {
  const { engine } = leading;
  const { db } = engine;
  const store: Store = {
    epoch: leading.epoch,
    addDevice: (device) => addDevice(leading, device),
    async device(name) {
      return (await selectDevices(db).where("name", "=", name).execute()).map(deviceOf)[0];
    },
    devices: async () => (await selectDevices(db).orderBy("name").execute()).map(deviceOf),
    trust: trustStoreOf(leading),
    addRun: (run) => addRun(leading, run),
    run: (run) => selectRuns(db).where("run", "=", run).executeTakeFirst(),
    runs: () => selectRuns(db).orderBy("added_ms").execute(),
    journal: (run) => journalOf(leading, run),
    commit: (run, change) => commit(leading, run, change),
    releases: (run, { from, most } = ALL) =>
      selectReleases(db, run).where("version", ">=", from).orderBy("version").limit(most).execute(),
    newestRelease: (run) => selectReleases(db, run).orderBy("version", "desc").limit(1).executeTakeFirst(),
    history: (run, page) => historyOf(leading, run, page),
    filesBeyond: (run, about) => filesBeyond(leading, run, about),
    removeFile: (run, removal) => removeFile(leading, run, removal),
    forgetFile: (run, sha256) => forgetFile(leading, run, sha256),
    forgetRows: (run, kept) => forgetRows(leading, run, kept),
    note: (note) => addNoteAlone(leading, note),
    auditHead: () => auditHead(engine),
    forgetEntries: (kept) => forgetEntries(leading, kept),
    auditLines: (range) => auditLines(engine, range),
    participations: (run) => tookOf(engine, run),
    integrity: () => engine.integrity(),
    close: () => engine.close(),
  };
  return guarded(store, engine);
}

/** Nobody else has the file, whatever its lease says: a coordinator that was killed did not release it. */
export async function leadHere(engine: Engine, nowMs?: () => number): Promise<Store> {
  const still = await readLease(engine);
  const claimant = { holder: `${process.pid}`, address: "", leaseMs: 0, still };
  const epoch = await takeLease(engine, claimant);
  assert(epoch !== null, "a lease that does not move can be taken");
  return storeOf({ engine, epoch, ...(nowMs && { nowMs }) });
}

function selectDevices(db: Kysely<Schema>) {
  return db.selectFrom("devices").select(["name", "certificate", "revoked"]);
}

function deviceOf(row: { name: string; certificate: Uint8Array; revoked: number }): Device {
  return { ...row, revoked: row.revoked !== 0 };
}

function selectReleases(db: Kysely<Schema>, run: string) {
  return db.selectFrom("releases").select(["version", "digest", "envelope"]).where("run", "=", run);
}

function selectRuns(db: Kysely<Schema>) {
  return db.selectFrom("runs").select(["run", "name", "plan", "header", "state"]);
}

async function addDevice(leading: Leading, device: NewDevice): Promise<void> {
  const { engine, epoch, nowMs = Date.now } = leading;
  const { name, serial, certificate, site = "" } = device;
  failpoint("store.device.before");
  await engine.db.transaction().execute(async (tx) => {
    // Two at once with one name would both find nobody.
    await mustLead(engine, tx, { epoch, alone: true });
    const there = await tx
      .selectFrom("devices")
      .select(["name", "certificate"])
      .where((at) => at.or([at("name", "=", name), at("serial", "=", serial)]))
      .execute();
    if (there.length === 0) {
      await mustHaveRoom(tx, device);
      const row = { name, serial, certificate, site, added_ms: nowMs() };
      await tx.insertInto("devices").values(row).execute();
      const detail = site ? { site } : {};
      const note = { actor: name, what: "device.enrolled", subject: sha256Hex(certificate), detail };
      await addNote(engine, tx, { note, wallMs: nowMs() });
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

async function mustHaveRoom(tx: Tx, { name, site, siteLimit }: NewDevice): Promise<void> {
  if (!site || !siteLimit) return;
  const count = await countAt(tx, site);
  if (count < siteLimit) return;
  throw new Fault("refused", `device ${name}`, {
    expected: `at most ${siteLimit} devices of site ${site}`,
    got: `${count} enrolled`,
    todo: "Revoke one of them, or have the operator raise the limit",
  });
}

/** An entry without a change. */
async function addNoteAlone({ engine, epoch, nowMs = Date.now }: Leading, note: Note): Promise<void> {
  await engine.db.transaction().execute(async (tx) => {
    await mustLead(engine, tx, { epoch });
    await addNote(engine, tx, { note, wallMs: nowMs() });
  });
}

async function addRun({ engine, epoch, nowMs = Date.now }: Leading, run: StoredRun): Promise<void> {
  failpoint("store.run.before");
  await engine.db.transaction().execute(async (tx) => {
    // Two at once would find the same newest.
    await mustLead(engine, tx, { epoch, alone: true });
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
    const added_ms = Math.max(nowMs(), (newest?.ms ?? 0) + 1);
    await tx
      .insertInto("runs")
      .values({ ...run, added_ms })
      .execute();
    failpoint("store.run.inside");
  });
  failpoint("store.run.durable");
}

/** Whatever the engine throws becomes a Fault; Faults of our own pass. */
function guarded(store: Store, engine: Engine): Store {
  const wrap =
    <A extends unknown[], R>(what: string, method: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      try {
        return await method(...args);
      } catch (cause) {
        throw engine.faultOf(cause, what);
      }
    };
  return {
    epoch: store.epoch,
    addDevice: wrap("adding a device", store.addDevice),
    device: wrap("reading a device", store.device),
    devices: wrap("reading devices", store.devices),
    trust: store.trust,
    addRun: wrap("adding a run", store.addRun),
    run: wrap("reading a run", store.run),
    runs: wrap("reading runs", store.runs),
    journal: wrap("reading the journal", store.journal),
    commit: wrap("committing", store.commit),
    releases: wrap("reading releases", store.releases),
    note: wrap("writing to the audit log", store.note),
    auditHead: wrap("reading the audit log", store.auditHead),
    forgetEntries: wrap("removing old entries of the audit log", store.forgetEntries),
    auditLines: wrap("reading the audit log", store.auditLines),
    participations: wrap("reading who took part", store.participations),
    newestRelease: wrap("reading a release", store.newestRelease),
    history: wrap("reading history", store.history),
    filesBeyond: wrap("reading files", store.filesBeyond),
    removeFile: wrap("removing a file", store.removeFile),
    forgetFile: wrap("forgetting a file", store.forgetFile),
    forgetRows: wrap("removing old rows", store.forgetRows),
    integrity: wrap("checking integrity", store.integrity),
    close: wrap("closing", store.close),
  };
}
