import { hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { Kysely, PostgresDialect, sql } from "kysely";
import type { Engine } from "./engine.ts";
import { type Applied, FOLDERS, type Migration, pending, readMigrations } from "./migrate.ts";
import { faultOf, type Limits, openPool } from "./pool.ts";
import type { Schema } from "./schema.ts";

export type PostgresOptions = {
  /** `postgres://user:password@host:port/database`; the database is there, and may be empty. */
  readonly url: string;
  /** Most connections for the store; one more is for the lease. */
  readonly poolSize?: number;
  /** What the server's own lists call this process. */
  readonly name?: string;
  readonly limits?: Partial<Limits>;
};

/** A transaction that stands still keeps a new leader out: for less long than a lease lasts. */
const LIMITS: Limits = { connectMs: 5_000, statementMs: 10_000, lockMs: 5_000, idleMs: 1_500 };
/** Renewing takes no time, or it is too late. */
const LEASE_LIMITS: Limits = { connectMs: 1_500, statementMs: 1_500, lockMs: 1_000, idleMs: 1_500 };
const CHANNEL = "tutti_lease";
/** Any number, the same in every process: they migrate one after another. */
const MIGRATING = 7_885_441;
/** Of what is written alone. Not the lease's row: its holder must be able to renew it meanwhile. */
const ALONE = 7_885_442;

const MIGRATIONS = "create table if not exists migrations (number integer primary key, sha256 text not null)";

/** Without these an acknowledged commit may be gone after a crash (docs/reliability.md, Storage). */
const DURABLE = { synchronous_commit: ["on", "remote_apply"], fsync: ["on"], full_page_writes: ["on"] };

/** What connections for a lease are called: short enough for the server to keep it whole. */
const SESSION = "tutti lease ";
/**
 * Whether no connection of the lease's holder is open, by what the server calls them. Of a holder whose name
 * does not end so nobody can tell.
 */
const HOLDER_LEFT = sql<boolean>`(position(${sql.lit(SESSION)} in holder) > 0 and not exists (
  select from pg_stat_activity
  where starts_with(application_name, ${sql.lit(SESSION)})
    and right(holder, length(application_name) + 1) = ' ' || application_name))`;

const NOW_MS = sql<number>`cast(extract(epoch from clock_timestamp()) * 1000 as bigint)`;

/**
 * A PostgreSQL database, its tables made if absent; several processes may have it open.
 * @throws Fault("unavailable") where nobody answers; Fault("storage") where commits are not durable.
 */
export async function openPostgres(options: PostgresOptions): Promise<Engine> {
  const { url, poolSize: size = 8, name = "tutti", limits = {} } = options;
  const hints = new Set<() => void>();
  const hint = () => {
    for (const callback of hints) callback();
  };
  const db = kyselyOn(openPool({ url, size, name, limits: { ...LIMITS, ...limits } }));
  const endings = new Set<() => void>();
  const ended = () => {
    for (const callback of endings) callback();
  };
  const hears = { channel: CHANNEL, hint, ended };
  const called = `${SESSION}${hex(platformRandom().bytes(6))}`;
  const leases = kyselyOn(openPool({ url, size: 1, name: called, limits: LEASE_LIMITS, hears }));
  const close = async () => {
    await Promise.all([db.destroy(), leases.destroy()]);
  };
  let tells = false;
  try {
    await mustBeDurable(db);
    await migratePostgres(db, await readMigrations(FOLDERS.postgres));
    tells = await canTell(leases, called);
  } catch (cause) {
    await close();
    throw faultOf(cause, "opening the database");
  }
  return {
    name: "postgres",
    db,
    leases,
    session: tells ? called : "",
    holderLeft: tells ? HOLDER_LEFT : sql<boolean>`false`,
    nowMs: NOW_MS,
    locksRows: true,
    alone: async (tx) => void (await sql`select pg_advisory_xact_lock(${sql.lit(ALONE)})`.execute(tx)),
    faultOf,
    hint: async (tx) => void (await sql`select pg_notify(${CHANNEL}, '')`.execute(tx)),
    onHint: (callback) => void hints.add(callback),
    onLeft: (callback) => void endings.add(callback),
    integrity: () => isWhole(db),
    close,
  };
}

/**
 * Whether the server's list of connections may be read, and shows one by its own name: a URL may set another,
 * and what stands between may, too.
 */
async function canTell(leases: Kysely<Schema>, called: string): Promise<boolean> {
  const seen = sql<{ there: boolean }>`select exists (
    select from pg_stat_activity where pid = pg_backend_pid() and application_name = ${called}) as there`;
  return await seen.execute(leases).then(
    ({ rows }) => rows[0]?.there === true,
    () => false,
  );
}

/** To read from at leisure: nothing is looked up, migrated or listened to. */
export function readPostgres(url: string): Pick<Engine, "name" | "db" | "faultOf" | "close"> {
  const limits = { connectMs: 10_000, statementMs: 120_000, lockMs: 10_000, idleMs: 600_000 };
  const db = kyselyOn(openPool({ url, size: 1, name: "tutti reader", limits }));
  return { name: "postgres", db, faultOf, close: () => db.destroy() };
}

function kyselyOn(pool: ReturnType<typeof openPool>): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
}

async function mustBeDurable(db: Kysely<Schema>): Promise<void> {
  for (const [setting, allowed] of Object.entries(DURABLE)) {
    const { rows } = await sql<{ value: string }>`select current_setting(${setting}) as value`.execute(db);
    const got = rows[0]?.value ?? "nothing";
    if (allowed.includes(got)) continue;
    const todo = "Set it on the server: without it an acknowledged upload may be lost";
    throw new Fault("storage", `PostgreSQL's ${setting}`, { expected: allowed.join(" or "), got, todo });
  }
}

/** Applies what the database has not seen: all of it or nothing, and one process at a time. */
export function migratePostgres(db: Kysely<Schema>, migrations: readonly Migration[]): Promise<void> {
  return db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(${sql.lit(MIGRATING)})`.execute(tx);
    await sql.raw(MIGRATIONS).execute(tx);
    const { rows } = await sql<Applied>`select number, sha256 from migrations order by number`.execute(tx);
    for (const { number, sha256, sql: text } of pending(rows, migrations)) {
      await sql.raw(text).execute(tx);
      await sql`insert into migrations (number, sha256) values (${number}, ${sha256})`.execute(tx);
    }
  });
}

/** PostgreSQL keeps references whole by itself; that every row can be read is what a look can tell. */
async function isWhole(db: Kysely<Schema>): Promise<boolean> {
  const read = sql<{ bytes: number }>`
    select (select coalesce(sum(length(certificate)), 0) from devices)
      + (select coalesce(sum(length(plan) + length(header)), 0) from runs)
      + (select coalesce(sum(length(entry)), 0) from journal)
      + (select coalesce(sum(length(words)), 0) from sums)
      + (select coalesce(sum(length(envelope)), 0) from releases)
      + (select coalesce(sum(length(request) + coalesce(length(granted), 0)), 0) from renewals)
      + (select coalesce(sum(length(envelope)), 0) from statements) as bytes`;
  try {
    return (await read.execute(db)).rows.length === 1;
  } catch (cause) {
    if (faultOf(cause, "").code === "unavailable") throw cause;
    return false;
  }
}
