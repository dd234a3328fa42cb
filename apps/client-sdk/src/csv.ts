import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/** A CSV as it stands: named columns, every cell text. */
export type CsvTable = { readonly columns: readonly string[]; readonly rows: readonly (readonly string[])[] };

/**
 * Reads RFC 4180: comma-separated, a header line, cells in double quotes where they hold commas, quotes
 * (doubled) or line ends; LF or CRLF; a byte-order mark is passed over. @throws Fault("bad-input") about the
 * file; its detail, which stays at the site, says which record.
 */
export function parseCsv(text: string, file = "CSV"): CsvTable {
  const records = recordsOf(text.replace(/^\uFEFF/, ""), file);
  const [columns, ...rows] = records;
  demand(columns, () => new Fault("bad-input", file, { expected: "a header line", got: "nothing" }));
  const twice = columns.find((name, at) => columns.indexOf(name) !== at);
  demand(
    twice === undefined,
    () => new Fault("bad-input", `${file}, header`, { expected: "distinct columns", got: `two of ${twice}` }),
  );
  for (const [at, row] of rows.entries()) {
    const detail = { expected: `${columns.length} cells`, got: `${row.length} in record ${at + 1}` };
    demand(row.length === columns.length, () => new Fault("bad-input", file, detail));
  }
  return { columns, rows };
}

/** One cell and its following separator; quoted (RFC 4180, section 2, rules 5 to 7) or plain. */
const CELL = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;

function recordsOf(text: string, file: string): string[][] {
  const records: string[][] = [];
  let record: string[] = [];
  CELL.lastIndex = 0;
  while (CELL.lastIndex < text.length || record.length > 0) {
    const at = CELL.lastIndex;
    const match = CELL.exec(text);
    demand(
      match,
      () =>
        new Fault("bad-input", file, {
          expected: `a cell in record ${records.length}`,
          got: JSON.stringify(text.slice(at, at + 20)),
        }),
    );
    const [, quoted, plain, end] = match;
    record.push(quoted === undefined ? (plain ?? "") : quoted.replaceAll('""', '"'));
    if (end === ",") continue;
    // A line with nothing on it is no record.
    if (record.length > 1 || record[0] !== "") records.push(record);
    record = [];
  }
  return records;
}
