import type { Fault } from "@tutti/foundation/fault";
import type { Kysely, RawBuilder, Transaction } from "kysely";
import type { Schema } from "./schema.ts";

export type Tx = Transaction<Schema>;

/** An open database with the newest schema. What is not here is the same on every engine. */
export type Engine = {
  readonly name: "sqlite" | "postgres";
  readonly db: Kysely<Schema>;
  /** For the lease alone: a full pool must not cost it. */
  readonly leases: Kysely<Schema>;
  /**
   * What a holder's name ends with, so that the database can tell whether that process has left it; empty
   * where it could not.
   */
  readonly session: string;
  /** In a query of the lease: whether it has. False where the database cannot tell. */
  readonly holderLeft: RawBuilder<boolean>;
  /** The database's own wall clock, in ms. */
  readonly nowMs: RawBuilder<number>;
  /** Whether rows are locked for a transaction. SQLite has one writer, and no words for it. */
  readonly locksRows: boolean;
  /** Until `tx` ends, nobody else is past this; what the statements after it read was written before. */
  alone(tx: Tx): Promise<void>;
  /** What the engine threw, in our words; a Fault passes. */
  faultOf(cause: unknown, what: string): Fault;
  /** Tells whoever has the database open that the lease changed, once `tx` is committed. Only a hint. */
  hint(tx: Tx): Promise<void>;
  /** Called back on such a hint. */
  onHint(callback: () => void): void;
  /** Called back when a connection for the lease ends, so that to the database this process may have left. */
  onLeft(callback: () => void): void;
  /** Whether the database is whole, as far as the engine can tell. */
  integrity(): Promise<boolean>;
  close(): Promise<void>;
};
