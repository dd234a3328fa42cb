import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { NIGHTLY } from "../runs.ts";
import { batch } from "./batch.ts";

const SCRIPT = fileURLToPath(new URL("./compare-child.ts", import.meta.url));

const CASES = NIGHTLY ? 100_000 : 2_000;
const BATCH = 10_000;

test(`${CASES} nodes of any operator, at random: what onnxruntime runs too comes out the same`, {
  timeout: 7_200_000,
}, async () => {
  const fates: Record<string, number> = {};
  for (let first = 0; first < CASES; first += BATCH) {
    const { defects, report } = await batch(SCRIPT, [first, Math.min(BATCH, CASES - first)]);
    expect(defects.join("\n\n")).toBe("");
    for (const [fate, count] of Object.entries(report!.fates)) fates[fate] = (fates[fate] ?? 0) + count;
  }
  console.log(`${CASES} random nodes, compared with onnxruntime: ${JSON.stringify(fates)}`);
  expect(fates.compared).toBeGreaterThan(CASES / 10);
});
