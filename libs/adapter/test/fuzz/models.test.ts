import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { batch } from "../../../graph/test/fuzz/batch.ts";

const SCRIPT = fileURLToPath(new URL("./child.ts", import.meta.url));

/** TUTTI_TEST=nightly tries a hundred times as many. */
const CASES = process.env.TUTTI_TEST === "nightly" ? 100_000 : 1_000;

/** Cases per process: short enough that a leak of one case shows, long enough that starting does not. */
const BATCH = 2_500;

/** Most a process may hold, whatever sizes a damaged file speaks of; tfjs and the corpus take some 300 MB. */
const RESIDENT_BYTES = 1.5e9;

test(`${CASES} damaged models: a Fault or an answer, within bounds of memory`, {
  timeout: 3_600_000,
}, async () => {
  const fates: Record<string, number> = {};
  let cases = 0;
  for (let first = 0; first < CASES; first += BATCH) {
    const { defects, report } = await batch(SCRIPT, [first, Math.min(BATCH, CASES - first)]);
    expect(defects.join("\n\n")).toBe("");
    expect(report!.residentBytes).toBeLessThan(RESIDENT_BYTES);
    cases += report!.cases;
    for (const [fate, count] of Object.entries(report!.fates)) fates[fate] = (fates[fate] ?? 0) + count;
  }
  console.log(`${cases} damaged models, by how far they came: ${JSON.stringify(fates)}`);
  expect(cases).toBe(CASES);
  // Else the damage is so great that only the reader is tried, or so small that nothing is.
  for (const far of ["read", "trace", "whole"]) expect(fates[far], far).toBeGreaterThan(CASES / 100);
});
