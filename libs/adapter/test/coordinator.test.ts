import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

/**
 * docs/architecture.md, The rooms: the coordinator has no graph code. These are the files of this room that
 * it loads.
 */
const SHARED = ["safetensors.ts", "spec.ts", "method.ts"];

test("what the coordinator uses reaches no graph code", () => {
  const seen = new Set<string>();
  const outside = new Set<string>();
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(new URL(`../src/${file}`, import.meta.url), "utf8");
    for (const [, from] of text.matchAll(/from "([^"]+)"/g)) {
      if (from!.startsWith("./")) visit(from!.slice(2));
      else outside.add(from!);
    }
  };
  for (const file of SHARED) visit(file);
  expect([...outside].filter((name) => !/^@tutti\/(foundation|update)\//.test(name))).toEqual([]);
  expect(seen.size).toBeGreaterThan(SHARED.length);
});
