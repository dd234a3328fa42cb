import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import { sharedCluster } from "../../../../claims/support/postgres/shared.ts";
import type { Engine } from "../../src/store/engine.ts";
import { readLease, takeLease } from "../../src/store/lease.ts";
import { openSqlite } from "../../src/store/open.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { driversHere } from "../../src/store/sqlite-driver.ts";
import { type Store, storeOf } from "../../src/store/store.ts";

/** A database that a test may open again and again. */
export type Place = { open(): Promise<Engine>; remove(): Promise<void> };

/** Every engine that the store has, and how to get an empty database of it. */
export const BENCHES: readonly { readonly name: string; fresh(): Promise<Place> }[] = [
  ...driversHere().map((driver) => ({
    name: driver,
    fresh: async () => {
      const folder = await mkdtemp(join(tmpdir(), "tutti-store-"));
      return {
        open: () => openSqlite({ file: join(folder, "tutti.sqlite"), driver }),
        remove: () => rm(folder, { recursive: true, force: true }),
      };
    },
  })),
  ...(SKIP_POSTGRES
    ? []
    : [
        {
          name: "postgres",
          fresh: async () => {
            const url = await (await sharedCluster()).database();
            return { open: () => openPostgres({ url }), remove: async () => {} };
          },
        },
      ]),
];

if (SKIP_POSTGRES) console.log(`the store on PostgreSQL: skipped, ${NO_POSTGRES}`);

export const SHORT_MS = 50;

/** Leads at once, as one who saw that the lease does not move. */
export async function lead(engine: Engine, nowMs?: () => number): Promise<Store> {
  const still = await readLease(engine);
  const epoch = await takeLease(engine, { holder: "test", address: "a:1", leaseMs: SHORT_MS, still });
  if (epoch === null) throw new Error("the lease went on");
  return storeOf({ engine, epoch, ...(nowMs && { nowMs }) });
}

export const bytes = (...values: number[]) => Uint8Array.from(values);
export const aRun = { run: "r1", name: "penguins", plan: bytes(1, 2), header: bytes(3), state: "running" };
