import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT } from "../tidy/sources.ts";
import { BUGS } from "./bugs.ts";

describe("a planted bug", () => {
  test.each([...BUGS])("$name changes text that is there, once", ({ patches }) => {
    const sources = new Map<string, string>();
    for (const { file, find, replace } of patches) {
      const text = sources.get(file) ?? readFileSync(join(ROOT, file), "utf8");
      expect(text.split(find).length - 1, `${file}: ${find}`).toBe(1);
      sources.set(
        file,
        text.replace(find, () => replace),
      );
    }
  });

  test("has a name of its own", () => {
    expect(new Set(BUGS.map(({ name }) => name)).size).toBe(BUGS.length);
  });
});
