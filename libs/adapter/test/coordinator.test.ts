import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

/**
 * docs/architecture.md, The rooms: the coordinator has no graph code. These are the files of this room that
 * it loads.
 */
const SHARED = ["formats/safetensors.ts", "spec.ts", "method.ts"];

test("what the coordinator uses reaches no graph code", () => {
  const seen = new Set<string>();
  const outside = new Set<string>();
  const visit = (file: URL) => {
    if (seen.has(file.href)) return;
    seen.add(file.href);
    for (const [, from] of readFileSync(file, "utf8").matchAll(/from "([^"]+)"/g)) {
      if (from!.startsWith(".")) visit(new URL(from!, file));
      else outside.add(from!);
    }
  };
  for (const file of SHARED) visit(new URL(`../src/${file}`, import.meta.url));
  expect([...outside].filter((name) => !/^@tutti\/(foundation|update)\//.test(name))).toEqual([]);
  expect(seen.size).toBeGreaterThan(SHARED.length);
});
