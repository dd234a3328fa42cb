import { expect, test } from "vitest";
import { code, PAGE, pageWith } from "../page.ts";
import { fields } from "./explain.ts";

test("every field of tutti.json says what it is for", () => {
  expect(fields().filter(({ says }) => says.length < 10)).toEqual([]);
  expect(fields().map(({ path }) => path)).toContain("store.urlFile");
});

test("docs/operating.md has each field as the code has it (npx vitest run FILE -u writes them)", async () => {
  const rows = fields().map(({ path, kind, fallback, says }) => [
    code(path),
    plain(kind),
    plain(fallback),
    says,
  ]);
  const head = ["field", "kind", "default", "what it is"];
  await expect(pageWith({ fields: { head, rows } })).toMatchFileSnapshot(PAGE);
});

function plain(it: string): string {
  return it === "" || it === "required" || it === "section" ? it : code(it);
}
