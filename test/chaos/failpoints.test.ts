import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { armFailpoints, FAILPOINTS, failpoint, onFailpoint } from "@tutti/coordinator/failpoint";
import { afterEach, describe, expect, test } from "vitest";
import { sources } from "../tidy/sources.ts";

afterEach(() => onFailpoint(undefined));

/** Names as the coordinator's sources write them; a part in braces stands for any word. */
function written(): RegExp[] {
  const calls = sources("apps/coordinator/src")
    .filter(({ path }) => !path.endsWith("failpoint.ts"))
    .flatMap(({ text }) => [...text.matchAll(/\bfailpoint\((?:"([^"]+)"|`([^`]+)`)\)/g)]);
  return calls.map(([, plain, template]) => {
    const pattern = (plain ?? template ?? "").replaceAll(".", "\\.").replaceAll(/\$\{[^}]+\}/g, "[a-z]+");
    return new RegExp(`^${pattern}$`);
  });
}

describe("failpoints", () => {
  test("there are at least 40, none twice, and sources and list name the same", () => {
    expect(FAILPOINTS.length).toBeGreaterThanOrEqual(40);
    expect(new Set(FAILPOINTS).size).toBe(FAILPOINTS.length);
    const places = written();
    expect(FAILPOINTS.filter((name) => !places.some((place) => place.test(name)))).toEqual([]);
    expect(places.filter((place) => !FAILPOINTS.some((name) => place.test(name)))).toEqual([]);
  });

  test("nothing happens where the environment names none", () => {
    armFailpoints({});
    for (const name of FAILPOINTS) failpoint(name);
  });

  test("the n-th hit of a name acts, once", () => {
    armFailpoints({ TUTTI_FAILPOINT: "store.sum.inside:2=error,serve.begin=error" });
    failpoint("store.sum.inside");
    expect(() => failpoint("store.sum.inside")).toThrow("store.sum.inside");
    failpoint("store.sum.inside");
    expect(() => failpoint("serve.begin")).toThrow("serve.begin");
  });

  test.each([
    [
      "an unknown name, with the list",
      "store.sum.never",
      /expected one of serve\.begin, .*got store\.sum\.never/,
    ],
    ["an unknown action", "serve.begin=burn", /expected one of kill, stop, error, delay, got burn/],
    ["a hit that is no number", "serve.begin:x", /expected a number from 1, got x/],
  ])("%s is refused at start", (_what, text, expected) => {
    expect(() => armFailpoints({ TUTTI_FAILPOINT: text })).toThrow(expected);
  });

  test("a process is killed at the place, with nothing run after it, and its hits are written down", () => {
    const folder = mkdtempSync(join(tmpdir(), "tutti-failpoint-"));
    try {
      const file = join(folder, "hits");
      const module = new URL("../../apps/coordinator/src/failpoint.ts", import.meta.url).href;
      const program = `
        const { armFailpoints, failpoint } = await import(${JSON.stringify(module)});
        armFailpoints(process.env);
        for (const _ of [1, 2, 3]) { failpoint("serve.begin"); console.log("passed"); }`;
      const env = { ...process.env, TUTTI_FAILPOINT: "serve.begin:3", TUTTI_FAILPOINT_HITS: file };
      const args = ["--import", "tsx", "--input-type=module", "-e", program];
      const { signal, stdout } = spawnSync(process.execPath, args, { env, encoding: "utf8" });
      expect([signal, stdout]).toEqual(["SIGKILL", "passed\npassed\n"]);
      expect(readFileSync(file, "utf8")).toBe("serve.begin\n");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
