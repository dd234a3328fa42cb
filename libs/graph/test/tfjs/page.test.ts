import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { page, readPage, ways } from "./page.ts";

test("docs/operators.md says what the tables say; the claim graph/standard rewrites it", () => {
  const path = new URL("../../../../docs/operators.md", import.meta.url);
  expect(readPage(readFileSync(path, "utf8"))).toEqual(ways());
});

test("a page reads back as it was made", () => {
  const counts = new Map([["Abs", { passed: 1, of: 2, opsets: new Set([13, 6]) }]]);
  const text = page(counts, "A summary.");
  expect(readPage(text)).toEqual(ways());
  expect(text).toContain("| Abs | kernel | rule | 1 of 2 | 6–13 |");
});
