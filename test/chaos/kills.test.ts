import { FAILPOINTS, type Failpoint } from "@tutti/coordinator/failpoint";
import { describe, expect, test } from "vitest";
import { isHarmless, killAll } from "../../claims/support/coordinator/kills.ts";
import { SCENARIOS, scenarioOf } from "../../claims/support/coordinator/scenarios.ts";

/** One for each kind of effect; the claim coordinator/kill has all of them, on both databases. */
const SOME: readonly Failpoint[] = [
  "store.sum.inside",
  "ack.uploaded",
  "store.release.durable",
  "artifact.renamed",
  "complete.adapter",
];

describe("a coordinator process that is killed", () => {
  test("goes on with the same round and releases the same bytes, wherever it was", {
    timeout: 240_000,
  }, async () => {
    const lines: string[] = [];
    const killed = await killAll(SOME, { where: { name: "sqlite" }, report: (line) => lines.push(line) });
    expect(killed.map(({ failpoint }) => failpoint).sort()).toEqual([...SOME].sort());
    expect(
      killed.filter((one) => !isHarmless(one)),
      lines.join("\n"),
    ).toEqual([]);
  });

  test("each failpoint has a scenario that passes it, and each scenario a failpoint", () => {
    const used = new Set(FAILPOINTS.map(scenarioOf));
    expect([...used].sort()).toEqual(Object.keys(SCENARIOS).sort());
  });
});
