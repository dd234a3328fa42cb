import { type Kysely, sql } from "kysely";
import type { Engine } from "../../src/store/engine.ts";
import type { Schema } from "../../src/store/schema.ts";

/** A table as both engines can tell it: each column a line, its keys and references after them. */
export type Described = Readonly<Record<string, readonly string[]>>;

/** What the database itself says of its tables, in words that do not depend on the engine. */
export async function describeSchema({ name, db }: Engine): Promise<Described> {
  return name === "sqlite" ? await ofSqlite(db) : await ofPostgres(db);
}

type Column = { name: string; type: string; required: number | boolean; fallback: string | null };

function line({ name, type, required, fallback }: Column): string {
  const kind = /int/i.test(type) ? "integer" : /text/i.test(type) ? "text" : "bytes";
  return `${name} ${kind}${required ? " not null" : ""}${fallback === null ? "" : ` default ${fallback}`}`;
}

async function ofSqlite(db: Kysely<Schema>): Promise<Described> {
  const rows = async <T>(text: string) => (await sql.raw<T>(text).execute(db)).rows;
  const tables = await rows<{ name: string }>("select name from sqlite_master where type = 'table'");
  const described: Record<string, string[]> = {};
  for (const { name: table } of tables) {
    const columns = await rows<Column & { pk: number }>(
      `select name, type, "notnull" as required, dflt_value as fallback, pk
        from pragma_table_info('${table}')`,
    );
    const key = columns.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk);
    const indexes = await rows<{ name: string }>(
      `select name from pragma_index_list('${table}') where origin = 'u' and "unique" = 1`,
    );
    const unique: string[] = [];
    for (const index of indexes) {
      const parts = await rows<{ name: string }>(`select name from pragma_index_info('${index.name}')`);
      unique.push(`unique ${parts.map(({ name }) => name)}`);
    }
    const references = await rows<{ own: string; table: string; theirs: string }>(
      `select "from" as own, "table", "to" as theirs from pragma_foreign_key_list('${table}')`,
    );
    described[table] = [
      ...columns.map(line),
      `primary key ${key.map(({ name }) => name)}`,
      ...unique.sort(),
      ...references.map((it) => `${it.own} references ${it.table}.${it.theirs}`).sort(),
    ];
  }
  return sorted(described);
}

async function ofPostgres(db: Kysely<Schema>): Promise<Described> {
  const rows = async <T>(text: string) => (await sql.raw<T>(text).execute(db)).rows;
  const columns = await rows<Column & { table: string }>(
    `select table_name as table, column_name as name, data_type as type, is_nullable = 'NO' as required,
      regexp_replace(column_default, '::text$', '') as fallback
      from information_schema.columns where table_schema = 'public'
      order by table_name, ordinal_position`,
  );
  const keys = await rows<{ table: string; type: string; columns: string; target: string | null }>(
    `select c.conrelid::regclass::text as table, c.contype::text as type,
      (select string_agg(a.attname, ',' order by p.at) from unnest(c.conkey) with ordinality p(n, at)
        join pg_attribute a on a.attrelid = c.conrelid and a.attnum = p.n) as columns,
      (select c.confrelid::regclass::text || '.' || a.attname from pg_attribute a
        where a.attrelid = c.confrelid and a.attnum = c.confkey[1]) as target
      from pg_constraint c join pg_class t on t.oid = c.conrelid
      where t.relnamespace = 'public'::regnamespace`,
  );
  const described: Record<string, string[]> = {};
  for (const column of columns) {
    described[column.table] ??= [];
    described[column.table]!.push(line(column));
  }
  const of = (table: string, type: string) => keys.filter((it) => it.table === table && it.type === type);
  for (const [table, lines] of Object.entries(described)) {
    lines.push(`primary key ${of(table, "p").map((it) => it.columns)}`);
    lines.push(
      ...of(table, "u")
        .map((it) => `unique ${it.columns}`)
        .sort(),
    );
    lines.push(
      ...of(table, "f")
        .map((it) => `${it.columns} references ${it.target}`)
        .sort(),
    );
  }
  return sorted(described);
}

function sorted(described: Record<string, string[]>): Described {
  return Object.fromEntries(Object.entries(described).sort(([a], [b]) => (a < b ? -1 : 1)));
}
