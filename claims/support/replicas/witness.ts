import { JournalEntrySchema } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import type { Cluster } from "../postgres/cluster.ts";

/**
 * The database's own record of every row that becomes durable, by triggers that no coordinator knows of: in
 * which epoch, and by which process.
 */
const TRIGGERS = `
create table witness (
  at bigserial primary key, what text not null, run text not null,
  epoch bigint not null, lease bigint not null, writer text not null, entry bytea
);
create function see() returns trigger language plpgsql as $$
declare
  row jsonb := to_jsonb(new);
begin
  insert into witness (what, run, epoch, lease, writer, entry) select
    tg_table_name, row->>'run', coalesce((row->>'epoch')::bigint, lease.epoch), lease.epoch,
    current_setting('application_name'), decode(substr(row->>'entry', 3), 'hex')
    from lease;
  return new;
end $$;
create trigger see_journal after insert or update on journal for each row execute function see();
create trigger see_releases after insert or update on releases for each row execute function see();
create trigger see_sums after insert or update on sums for each row execute function see();
create trigger see_runs after insert or update on runs for each row execute function see();
`;

export async function witnessed(cluster: Cluster, database: string): Promise<void> {
  await cluster.query(database, TRIGGERS);
}

export type Witnessed = {
  readonly writes: number;
  readonly epochs: number;
  /** Epochs that more than one process wrote in; a leader has an epoch of its own. */
  readonly shared: number;
  /** Rows of another epoch than the lease had when they were written, or written after a later epoch's. */
  readonly late: number;
};

export async function testimony(cluster: Cluster, database: string): Promise<Witnessed> {
  const number = async (sql: string) => Number(await cluster.query(database, sql));
  return {
    writes: await number("select count(*) from witness"),
    epochs: await number("select count(distinct epoch) from witness"),
    shared: await number(
      "select count(*) from (select epoch from witness group by epoch having count(distinct writer) > 1) x",
    ),
    late: await number(
      "select count(*) from (select epoch, lease, max(epoch) over (order by at) as newest from witness) x " +
        "where epoch <> lease or epoch < newest",
    ),
  };
}

/** Whose vectors became durable in a run's first round, in order; a name twice is a vector counted twice. */
export async function uploadsOf(cluster: Cluster, database: string, run: string): Promise<string[]> {
  const rows = await cluster.query(
    database,
    `select encode(entry, 'hex') from witness where what = 'journal' and run = '${run}' and at <
      (select min(at) from witness where what = 'releases' and run = '${run}' and at >
        (select min(at) from witness where what = 'journal' and run = '${run}')) order by at`,
  );
  const entries = rows.split("\n").map((hex) => {
    const bytes = new Uint8Array(Buffer.from(hex, "hex"));
    return decode(JournalEntrySchema, bytes, bytes.length);
  });
  return entries.filter(({ event }) => event.case === "uploaded").map(({ device }) => device);
}
