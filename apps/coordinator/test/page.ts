import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The page for operators, some tables of which are what the code says of itself. */
export const PAGE = fileURLToPath(new URL("../../../docs/operating.md", import.meta.url));

type Table = { readonly head: readonly string[]; readonly rows: readonly (readonly string[])[] };

/** The page's text, with each of these tables between its two marks. */
export function pageWith(tables: Readonly<Record<string, Table>>): string {
  let page = readFileSync(PAGE, "utf8");
  for (const [name, table] of Object.entries(tables)) page = replaced(page, name, text(table));
  return page;
}

function replaced(page: string, name: string, rows: string): string {
  const marks = [`<!-- ${name} -->`, `<!-- /${name} -->`] as const;
  const [from, to] = [page.indexOf(marks[0]), page.indexOf(marks[1])];
  if (from < 0 || to < from) throw new Error(`${PAGE}: expected ${marks.join(" … ")}`);
  return `${page.slice(0, from)}${marks[0]}\n${rows}${page.slice(to)}`;
}

function text({ head, rows }: Table): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((it) => it.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line), ""].join("\n");
}

export function code(it: string): string {
  return `\`${it}\``;
}
