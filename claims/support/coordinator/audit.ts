import { join } from "node:path";
import type { Engine } from "@tutti/coordinator/store/engine";
import { readLease } from "@tutti/coordinator/store/lease";
import { openSqlite } from "@tutti/coordinator/store/open";
import { openPostgres } from "@tutti/coordinator/store/postgres";
import { storeOf } from "@tutti/coordinator/store/store";
import { JournalEntrySchema, RunHeaderSchema } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import type { House } from "./house.ts";

/** What a dead coordinator left of promises that it had made. */
export type Audit = {
  /** Uploads that a device has an acknowledgement for, of rounds in progress. */
  readonly acknowledged: number;
  /** Of those, how many are not in the store. */
  readonly lost: number;
  /** Uploads that the store has more than once. */
  readonly twice: number;
};

/** Looks into the store of a coordinator that is dead, with nobody else writing. */
export async function audit(house: House, url?: string): Promise<Audit> {
  const file = join(house.federation, "coordinator", "tutti.sqlite");
  const engine: Engine = url ? await openPostgres({ url, name: "audit" }) : await openSqlite({ file });
  const { epoch } = await readLease(engine);
  const store = storeOf({ engine, epoch });
  try {
    let found: Audit = { acknowledged: 0, lost: 0, twice: 0 };
    for (const { run, header: bytes, state } of await store.runs()) {
      if (state !== "running") continue;
      const { round, attempt } = decode(RunHeaderSchema, bytes, bytes.length);
      const { entries } = await store.journal(run);
      const durable = entries
        .map((entry) => decode(JournalEntrySchema, entry, entry.length))
        .filter(({ event }) => event.case === "uploaded")
        .map(({ device }) => device);
      const about = `${run}/${round}/${attempt}`;
      const acknowledged = house.said.flatMap((said) =>
        said.kind === "acknowledged" && said.stage === "upload" && said.about === about ? [said.device] : [],
      );
      found = {
        acknowledged: found.acknowledged + acknowledged.length,
        lost: found.lost + acknowledged.filter((device) => !durable.includes(device)).length,
        twice: found.twice + durable.length - new Set(durable).size,
      };
    }
    return found;
  } finally {
    await store.close();
  }
}
