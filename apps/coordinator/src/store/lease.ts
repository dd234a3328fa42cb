import { Fault } from "@tutti/foundation/fault";
import { sql } from "kysely";
import type { Engine, Tx } from "./engine.ts";

/** Who leads, and for how long: one row, with the database's clock. */
export type Lease = {
  /** Grows by one with every leader; only the newest epoch may write. */
  readonly epoch: number;
  readonly holder: string;
  /** Where clients find the holder, "host:port". */
  readonly address: string;
  /** Counts the holder's renewals, so that one can be seen to have stopped without looking at any clock. */
  readonly renewals: number;
  /** Until it is over; 0 or less where it is. */
  readonly leftMs: number;
  /** Whether the holder's process has left the database. */
  readonly left: boolean;
};

export type Claimant = {
  readonly holder: string;
  readonly address: string;
  readonly leaseMs: number;
  /**
   * A lease that may be taken while it does not move, though by the database's clock it goes on: its holder
   * has left, or that clock was set back.
   */
  readonly still?: Pick<Lease, "epoch" | "renewals"> | undefined;
};

export async function readLease(engine: Engine): Promise<Lease> {
  return await spoken(engine, "reading the lease", async () => {
    const { until_ms, now_ms, left, ...row } = await engine.leases
      .selectFrom("lease")
      .select(["epoch", "holder", "address", "renewals", "until_ms"])
      .select([engine.nowMs.as("now_ms"), engine.holderLeft.as("left")])
      .executeTakeFirstOrThrow();
    return { ...row, leftMs: until_ms - now_ms, left: Boolean(left) };
  });
}

/** Writes the lease as it is: whether the database takes a write at all. */
export async function touchLease(engine: Engine): Promise<void> {
  await spoken(engine, "writing the lease", () =>
    engine.leases
      .updateTable("lease")
      .set(({ ref }) => ({ epoch: ref("epoch") }))
      .execute(),
  );
}

/**
 * The next epoch, for the one who takes a lease that is over, or may be taken; null while it is another's.
 * Transactions of the leader before are waited for: from here on they are refused.
 */
export async function takeLease(engine: Engine, claimant: Claimant): Promise<number | null> {
  const { holder, address, leaseMs, still } = claimant;
  return await spoken(engine, "taking the lease", () =>
    engine.leases.transaction().execute(async (tx) => {
      const held = await tx
        .selectFrom("lease")
        .select(["epoch", "renewals", "until_ms", engine.nowMs.as("now_ms")])
        .$if(engine.locksRows, (query) => query.forUpdate())
        .executeTakeFirstOrThrow();
      const isStill = held.epoch === still?.epoch && held.renewals === still.renewals;
      if (held.until_ms > held.now_ms && !isStill) return null;
      const epoch = held.epoch + 1;
      await tx
        .updateTable("lease")
        .set({ epoch, holder, address, renewals: 0, until_ms: sql<number>`${engine.nowMs} + ${leaseMs}` })
        .execute();
      await tx.insertInto("epochs").values({ epoch, holder, address, since_ms: engine.nowMs }).execute();
      await engine.hint(tx);
      return epoch;
    }),
  );
}

/** False where another has taken it. */
export async function renewLease(
  engine: Engine,
  { epoch, leaseMs }: { epoch: number; leaseMs: number },
): Promise<boolean> {
  return await spoken(engine, "renewing the lease", async () => {
    const done = await engine.leases
      .updateTable("lease")
      .set({
        renewals: sql<number>`renewals + 1`,
        until_ms: sql<number>`${engine.nowMs} + ${leaseMs}`,
      })
      .where("epoch", "=", epoch)
      .executeTakeFirst();
    return done.numUpdatedRows > 0n;
  });
}

/** Gives the lease up before its end, so that another can take it at once. */
export async function releaseLease(engine: Engine, epoch: number): Promise<void> {
  await spoken(engine, "releasing the lease", () =>
    engine.leases.transaction().execute(async (tx) => {
      await tx.updateTable("lease").set({ until_ms: 0 }).where("epoch", "=", epoch).execute();
      await engine.hint(tx);
    }),
  );
}

/**
 * The first thing in every transaction that writes: until it ends, nobody can take the lease. Its holder can
 * renew it meanwhile: a renewal leaves the epoch alone, which is all that is locked. With `alone`, whatever
 * else writes alone is waited for before; with `look`, nothing is locked.
 * @throws Fault("unavailable") where another epoch is the newest.
 */
export async function mustLead(
  engine: Engine,
  tx: Tx,
  { epoch, alone = false, look = false }: { epoch: number; alone?: boolean; look?: boolean },
): Promise<void> {
  if (alone) await engine.alone(tx);
  const { epoch: now } = await tx
    .selectFrom("lease")
    .select("epoch")
    .$if(engine.locksRows && !look, (query) => query.forKeyShare())
    .executeTakeFirstOrThrow();
  if (now !== epoch) throw fenced(epoch, now);
}

/** How a coordinator hears that it leads no more. */
export function fenced(epoch: number, now: number): Fault {
  return new Fault("unavailable", "lease", {
    expected: `epoch ${epoch}`,
    got: `${now}`,
    todo: "Another coordinator leads; ask that one",
  });
}

async function spoken<T>(engine: Engine, what: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    throw engine.faultOf(cause, what);
  }
}
