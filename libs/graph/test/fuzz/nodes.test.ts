import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { NIGHTLY } from "../runs.ts";
import { batch } from "./batch.ts";

const SCRIPT = fileURLToPath(new URL("./child.ts", import.meta.url));

/** A hundred times as many at night. */
const CASES = NIGHTLY ? 200_000 : 2_000;
const BATCH = 10_000;

/** tfjs and its backend take some 200 MB; sizes that an attribute speaks of must not add to it. */
const RESIDENT_BYTES = 1e9;

test(`${CASES} nodes of any operator, inputs and attributes at random: a Fault, or results as inferred`, {
  timeout: 7_200_000,
}, async () => {
  const fates: Record<string, number> = {};
  for (let first = 0; first < CASES; first += BATCH) {
    const { defects, report } = await batch(SCRIPT, [first, Math.min(BATCH, CASES - first)]);
    expect(defects.join("\n\n")).toBe("");
    expect(report!.residentBytes).toBeLessThan(RESIDENT_BYTES);
    for (const [fate, count] of Object.entries(report!.fates)) fates[fate] = (fates[fate] ?? 0) + count;
  }
  console.log(`${CASES} random nodes, by how far they came: ${JSON.stringify(fates)}`);
  // Else nothing that is drawn fits together, or nothing is amiss with it.
  for (const far of ["trace", "whole"]) expect(fates[far], far).toBeGreaterThan(CASES / 10);
});
