import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { Defect, Report } from "./child.ts";

/** TUTTI_TEST=nightly tries a hundred times as many. */
const CASES = process.env.TUTTI_TEST === "nightly" ? 100_000 : 1_000;

/** Cases per process: short enough that a leak of one case shows, long enough that starting does not. */
const BATCH = 2_500;

/** Most a process may hold, whatever sizes a damaged file speaks of; tfjs and the corpus take some 300 MB. */
const RESIDENT_BYTES = 1.5e9;

/** A case that has not ended by then hangs: the slowest sound ones take a second or two. */
const PATIENCE_MS = 60_000;

type Line = { begins?: number; model?: string; how?: string; defect?: Defect; report?: Report };

/** What a batch came to; the last case begun is the guilty one where the process did not end well. */
function batch(first: number, count: number): Promise<{ defects: string[]; report?: Report }> {
  const script = fileURLToPath(new URL("./child.ts", import.meta.url));
  const child = spawn(process.execPath, ["--import", "tsx", script, `${first}`, `${count}`]);
  const defects: string[] = [];
  let [last, report]: [string, Report | undefined] = ["", undefined];
  let stalled = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  createInterface(child.stdout).on("line", (text) => {
    const line = JSON.parse(text) as Line;
    if (line.begins !== undefined) last = text;
    if (line.defect) defects.push(JSON.stringify(line.defect, null, 2));
    report = line.report ?? report;
    clearTimeout(stalled);
    stalled = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  });
  let complaint = "";
  child.stderr.on("data", (chunk) => {
    complaint = `${complaint}${chunk}`.slice(-2_000);
  });
  return new Promise((resolve) => {
    child.on("close", (code, signal) => {
      clearTimeout(stalled);
      if (code !== 0) defects.push(`ended with ${code ?? signal} in ${last}\n${complaint}`);
      resolve(report ? { defects, report } : { defects });
    });
  });
}

test(`${CASES} damaged models: a Fault or an answer, within bounds of memory`, {
  timeout: 3_600_000,
}, async () => {
  const fates: Record<string, number> = {};
  let cases = 0;
  for (let first = 0; first < CASES; first += BATCH) {
    const { defects, report } = await batch(first, Math.min(BATCH, CASES - first));
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
