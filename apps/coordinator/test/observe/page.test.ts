import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { fields } from "../../src/folder/explain.ts";
import { EVENTS } from "../../src/observe/events.ts";
import type { Levels } from "../../src/observe/levels.ts";
import { openMeters } from "../../src/observe/meters.ts";

const PAGE = fileURLToPath(new URL("../../../../docs/operating.md", import.meta.url));
const NOTHING = {} as Levels;
const text = readFileSync(PAGE, "utf8");

test("every field of tutti.json says what it is for", () => {
  expect(fields().filter(({ says }) => says.length < 10)).toEqual([]);
  expect(fields().map(({ path }) => path)).toContain("store.urlFile");
});

test("docs/operating.md has each table as the code has it (npx vitest run FILE -u writes them)", async () => {
  const config = fields().map(({ path, kind, fallback, says }) => [
    code(path),
    plain(kind),
    plain(fallback),
    says,
  ]);
  const events = Object.entries(EVENTS).map(([name, [level, says]]) => [code(name), level, says]);
  let page = text;
  page = replaced(page, "fields", table(["field", "kind", "default", "what it is"], config));
  page = replaced(page, "events", table(["event", "level", "what it means"], events));
  const meters = openMeters(() => NOTHING)
    .all()
    .map(({ name, type, help }) => [code(name), type, help]);
  page = replaced(page, "metrics", table(["metric", "type", "what it counts"], meters));
  await expect(page).toMatchFileSnapshot(PAGE);
});

/** What stands between a table's two marks is the table. */
function replaced(page: string, name: string, rows: string): string {
  const marks = [`<!-- ${name} -->`, `<!-- /${name} -->`] as const;
  const [from, to] = [page.indexOf(marks[0]), page.indexOf(marks[1])];
  if (from < 0 || to < from) throw new Error(`${PAGE}: expected ${marks.join(" … ")}`);
  return `${page.slice(0, from)}${marks[0]}\n${rows}${page.slice(to)}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((it) => it.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line), ""].join("\n");
}

function code(it: string): string {
  return `\`${it}\``;
}

function plain(it: string): string {
  return it === "" || it === "required" || it === "section" ? it : code(it);
}
