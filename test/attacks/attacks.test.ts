import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ROOT } from "../tidy/sources.ts";
import { SCENARIOS } from "./rows.ts";
import { runInChild } from "./run.ts";
import { endAll, without } from "./scenario.ts";
import { listed } from "./table.ts";

afterAll(endAll);

describe("with everything in place", () => {
  test.each(SCENARIOS)("$row: $name: refused, and nothing more is sent", async ({ run }) => {
    expect(await run()).toMatchObject({ kind: "refused", sentAfter: 0 });
  });
});

/** The claim secagg/attacks takes out every defence; these show here that taking one out is what it says. */
const SOME = [1, 3, 10].map((row) => SCENARIOS.find((scenario) => scenario.row === row)!);

describe("with its defence taken out", () => {
  test.each(SOME)("$row: $name: works", async (attack) => {
    const outcomes = await runInChild([attack], attack.mutations[0]);
    expect(outcomes.get(attack.name)).toMatchObject({ kind: "worked" });
  });

  test("a defence that moved is found out before anything runs", async () => {
    const attack = SCENARIOS.find(({ harness }) => harness === "unit")!;
    const { file } = attack.mutations[0]!.patches[0]!;
    const moved = without("none", { file, find: "a text that is not there", replace: "" });
    const outcome = (await runInChild([attack], moved)).get(attack.name);
    expect(outcome).toMatchObject({ kind: "broken" });
    expect(JSON.stringify(outcome)).toContain("expected once, found 0 times");
  });
});

describe("the table", () => {
  test("docs/attacks.md lists exactly the attacks that exist", () => {
    const text = readFileSync(join(ROOT, "docs/attacks.md"), "utf8");
    expect(listed(text)).toEqual(SCENARIOS.map(({ row, name }) => `${row} ${name}`));
    expect(text).not.toContain("BROKEN");
  });

  test("names are one each, and each attack says what stands against it", () => {
    expect(new Set(SCENARIOS.map(({ name }) => name)).size).toBe(SCENARIOS.length);
    for (const { mutations } of SCENARIOS) expect(mutations.length).toBeGreaterThan(0);
  });
});
