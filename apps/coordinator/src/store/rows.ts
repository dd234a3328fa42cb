import { base64, fromBase64 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sql } from "kysely";

/** A row as a line of a backup: numbers and texts as they are, bytes in base64, the same for every engine. */
export type Value = string | number | Uint8Array | null;
export type Row = Readonly<Record<string, Value>>;

export function lineOf(row: Row): string {
  const plain = Object.entries(row).map(([name, value]) => [
    name,
    value instanceof Uint8Array ? { base64: base64(value) } : value,
  ]);
  return `${JSON.stringify(Object.fromEntries(plain))}\n`;
}

/** @throws Fault("bad-input") where it is none. */
export function rowOf(line: string, where: string): Row {
  const wrong = () => new Fault("bad-input", where, { expected: "a row", got: "another line" });
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw wrong();
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong();
  const entries = Object.entries(value).map(([name, cell]: [string, unknown]) => {
    if (!/^[a-z_][a-z0-9_]{0,40}$/.test(name)) throw wrong();
    if (cell === null || typeof cell === "string" || Number.isSafeInteger(cell)) return [name, cell];
    const bytes = (cell as { base64?: unknown }).base64;
    if (typeof bytes !== "string") throw wrong();
    return [name, fromBase64(bytes, where)];
  });
  return Object.fromEntries(entries) as Row;
}

/** Inserts a row into a table, whatever its columns. */
export function insertOf(table: string, row: Row) {
  const names = Object.keys(row).map((name) => sql.ref(name));
  return sql`insert into ${sql.table(table)} (${sql.join(names)}) values (${sql.join(Object.values(row))})`;
}
