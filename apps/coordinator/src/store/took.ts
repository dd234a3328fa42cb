import { sql } from "kysely";
import type { Engine, Tx } from "./engine.ts";

/** Who was in a round that closes: everybody whom it invited, and of them those who gave a vector. */
export type Took = {
  readonly round: number;
  readonly wallMs: number;
  readonly invited: readonly string[];
  readonly gave: readonly string[];
};

/** What a run remembers of a device; `lastRound` is −1 where it was invited and gave nothing yet. */
export type StoredParticipation = {
  readonly device: string;
  readonly rounds: number;
  readonly lastRound: number;
  readonly lastMs: number;
};

/** Rows of one statement: each engine bounds a statement's parameters. */
const PIECE = 200;

/** A round counts once, however many attempts it took and however often this is written. */
export async function putTook(tx: Tx, run: string, { round, wallMs, invited, gave }: Took): Promise<void> {
  const given = new Set(gave);
  const names = [...new Set([...invited, ...gave])].sort();
  for (let at = 0; at < names.length; at += PIECE) {
    const rows = names.slice(at, at + PIECE).map((device) => ({
      run,
      device,
      rounds: given.has(device) ? 1 : 0,
      last_round: given.has(device) ? round : -1,
      last_ms: given.has(device) ? wallMs : 0,
    }));
    await tx
      .insertInto("participations")
      .values(rows)
      .onConflict((there) =>
        there.columns(["run", "device"]).doUpdateSet({
          rounds: sql<number>`participations.rounds + case
            when excluded.last_round > participations.last_round then excluded.rounds else 0 end`,
          last_round: sql<number>`case
            when excluded.rounds = 1 then excluded.last_round else participations.last_round end`,
          last_ms: sql<number>`case
            when excluded.rounds = 1 then excluded.last_ms else participations.last_ms end`,
        }),
      )
      .execute();
  }
}

export async function tookOf({ db }: Engine, run: string): Promise<StoredParticipation[]> {
  const rows = await db
    .selectFrom("participations")
    .select(["device", "rounds", "last_round", "last_ms"])
    .where("run", "=", run)
    .orderBy("device")
    .execute();
  return rows.map(({ device, rounds, last_round, last_ms }) => {
    return { device, rounds, lastRound: last_round, lastMs: last_ms };
  });
}
