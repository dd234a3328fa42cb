import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { PostgresPool, PostgresPoolClient } from "kysely";
import pg from "pg";

export type PoolOptions = {
  /** `postgres://user:password@host:port/database`. */
  readonly url: string;
  /** Most connections. */
  readonly size: number;
  /** What the server's own lists call this process. */
  readonly name: string;
  readonly limits: Limits;
  /** Told of the server's word on a channel that connections listen to, and of their ends. */
  readonly hears?: { readonly channel: string; readonly hint: () => void; readonly ended: () => void };
};

/** In ms: for a free connection; for a statement, on both sides; for a lock; between two statements. */
export type Limits = {
  readonly connectMs: number;
  readonly statementMs: number;
  readonly lockMs: number;
  readonly idleMs: number;
};

/** The server says first that it gave up; if not even that comes, the connection is lost. */
const GRACE_MS = 1_000;

/**
 * Connections as kysely wants them. One that is lost, or too slow, is never used again: what it was asked
 * last may still happen, and must not be met by the next transaction.
 */
export function openPool({ url, size, name, limits, hears }: PoolOptions): PostgresPool {
  const pool = new pg.Pool({
    connectionString: url,
    max: size,
    application_name: name,
    connectionTimeoutMillis: limits.connectMs,
    query_timeout: limits.statementMs + GRACE_MS,
    statement_timeout: limits.statementMs,
    lock_timeout: limits.lockMs,
    idle_in_transaction_session_timeout: limits.idleMs,
    // A role's or a database's own setting may say otherwise; this comes after both.
    options: "-c synchronous_commit=on -c bytea_output=hex",
    keepAlive: true,
    types: { getTypeParser: parserOf as typeof pg.types.getTypeParser },
  });
  // Connections end when the server does; whoever uses one hears of it by his own statement.
  pool.on("error", () => {});
  pool.on("connect", (client) => {
    client.on("error", () => {});
    if (!hears) return;
    client.on("notification", hears.hint);
    client.on("end", hears.ended);
    client.query(`listen ${hears.channel}`).catch(() => {});
  });
  return {
    connect: async () => carefully(await pool.connect()),
    end: () => pool.end(),
  };
}

function carefully(client: pg.PoolClient): PostgresPoolClient {
  let lost: unknown;
  const query = async (sql: string, parameters: readonly unknown[]) => {
    if (lost !== undefined) throw lost;
    try {
      const result = await client.query(sql, [...parameters]);
      // The answer to "commit" after a statement that failed: nothing was committed.
      demand(
        sql !== "commit" || result.command === "COMMIT",
        () => new Fault("storage", "commit", { expected: "COMMIT", got: result.command }),
      );
      return result;
    } catch (error) {
      if (isLost(error)) lost = error;
      throw error;
    }
  };
  const careful = { query, release: () => client.release(lost !== undefined) };
  // Of query's two forms kysely uses the other, with a cursor, for streams alone.
  return careful as unknown as PostgresPoolClient;
}

/** Whether a connection is of no more use: it broke, nobody answered in time, or the server ended it. */
function isLost(error: unknown): boolean {
  return !(error instanceof Fault) && !(error instanceof pg.DatabaseError && error.severity === "ERROR");
}

/** By the first two characters of the server's code: its connection, resources, operator; a conflict. */
const PASSING = new Set(["08", "53", "57", "58", "40"]);
const PASSING_CODES = new Set(["55P03", "25P03", "25P04"]);

/**
 * What the database threw as a Fault: "unavailable" for what may be otherwise the next time. Either way it
 * means "unknown", never "no" (docs/reliability.md, promise 1).
 */
export function faultOf(cause: unknown, what: string): Fault {
  if (cause instanceof Fault) return cause;
  const got = saidBy(cause);
  const code = cause instanceof pg.DatabaseError ? (cause.code ?? "") : null;
  const passing = code === null || PASSING.has(code.slice(0, 2)) || PASSING_CODES.has(code);
  const todo = code === NO_DATABASE ? noDatabase(got) : code?.startsWith(NOT_AUTHORISED) ? WRONG_USER : "";
  if (!passing) return new Fault("storage", what, { got, cause, ...(todo && { todo }) });
  const expected = "an answer of PostgreSQL";
  return new Fault("unavailable", what, { expected, got, todo: NOBODY_THERE, cause });
}

const NOBODY_THERE =
  "Is PostgreSQL running, and is its URL right (store.url of tutti.json, or the file of store.urlFile)?";
const WRONG_USER =
  "Correct user and password in the URL (store.url of tutti.json, or the file of store.urlFile)";

/** invalid_catalog_name: no database of this name. */
const NO_DATABASE = "3D000";
/** The class invalid_authorization_specification. */
const NOT_AUTHORISED = "28";

/** A name with several addresses of which none answers makes an error without a sentence. */
function saidBy(cause: unknown): string {
  if (cause instanceof AggregateError && cause.message === "") return cause.errors.map(saidBy).join("; ");
  return cause instanceof Error ? cause.message : String(cause);
}

function noDatabase(got: string): string {
  const name = /"(.+)"/.exec(got)?.[1] ?? "NAME";
  return `Make it, empty, on that server: createdb ${name}, owned by the user in the URL; or correct the URL`;
}

const BYTEA = pg.types.builtins.BYTEA;
const INT8 = pg.types.builtins.INT8;

/** Numbers as numbers, bytes as a Uint8Array of their own; the rest as the package does it. */
function parserOf(type: number, format?: "text" | "binary"): (text: string) => unknown {
  if (type === INT8) return wholeNumber;
  if (type === BYTEA) return (text) => new Uint8Array(Buffer.from(text.slice("\\x".length), "hex"));
  return pg.types.getTypeParser(type, format as "text");
}

function wholeNumber(text: string): number {
  const value = Number(text);
  demand(
    Number.isSafeInteger(value),
    () => new Fault("storage", "an integer of the database", { expected: "at most 2^53", got: text }),
  );
  return value;
}
