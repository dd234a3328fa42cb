import "@tensorflow/tfjs-backend-wasm";
import { writeFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs-core";
import { backendCases, wholeModels } from "../../libs/graph/test/backend-cases.ts";
import { type Count, page } from "../../libs/graph/test/tfjs/page.ts";
import { type Outcome, runCase, runWhole } from "../../libs/graph/test/tfjs/standard-run.ts";
import type { Claim } from "../claim.ts";

const PAGE = new URL("../../docs/operators.md", import.meta.url);
/** Cases of the ONNX standard that onnxruntime 1.30 itself passes, and the whole CNNs beside them. */
const CASES = 904;
const WHOLE = 3;
const SHARE = 0.99;

type Tally = {
  passed: number;
  /** Of those passed: with an input constant that trace or load must know; with nothing left to run. */
  held: number;
  folded: number;
  wrong: string[];
  refused: Record<string, number>;
};

export const claim: Claim = {
  name: "graph/standard",
  target:
    "The ONNX standard's cases that onnxruntime itself passes (904) on tfjs/wasm: at least 99 % compute " +
    "the standard's values, every other is refused by name and none is wrong; three whole CNNs too",
  async run(report) {
    await tf.ready();
    const place = { tf, backend: "wasm" };
    const tally: Tally = { passed: 0, held: 0, folded: 0, wrong: [], refused: {} };
    const counts = new Map<string, Count>();
    const cases = backendCases().filter(({ ort }) => ort);
    for (const item of cases) {
      const outcome = await runCase(place, item);
      if (outcome.kind !== "passed") report(`${item.name}: ${reasonOf(outcome)}`);
      add(tally, item.name, outcome);
      for (const op of item.ops) count(counts, op, { opset: item.opset, passed: outcome.kind === "passed" });
    }
    const whole = await wholesPassed(report);
    const figures = { ...tally, of: cases.length, whole };
    if (process.env.CLAIM_WRITE === "1") writeFileSync(PAGE, page(counts, summary(tally, cases.length)));
    const enough = cases.length === CASES && tally.passed >= SHARE * CASES && whole === WHOLE;
    return { figures, holds: enough && tally.wrong.length === 0 };
  },
};

async function wholesPassed(report: (line: string) => void): Promise<number> {
  let passed = 0;
  for (const model of wholeModels()) {
    const wrong = await runWhole({ tf, backend: "wasm" }, model);
    report(`${model.name}: ${wrong[0] ?? "as expected"}`);
    if (wrong.length === 0) passed++;
  }
  return passed;
}

function add(tally: Tally, name: string, outcome: Outcome): void {
  if (outcome.kind === "wrong") tally.wrong.push(name);
  else if (outcome.kind === "refused") {
    const reason = reasonOf(outcome);
    tally.refused[reason] = (tally.refused[reason] ?? 0) + 1;
  } else {
    tally.passed++;
    if (outcome.held.length > 0) tally.held++;
    if (outcome.nodes === 0) tally.folded++;
  }
}

function reasonOf(outcome: Exclude<Outcome, { kind: "passed" }>): string {
  return outcome.kind === "wrong" ? outcome.why : outcome.fault.message;
}

function count(counts: Map<string, Count>, op: string, met: { opset: number; passed: boolean }): void {
  const known = counts.get(op) ?? { passed: 0, of: 0, opsets: new Set<number>() };
  known.of++;
  if (met.passed) {
    known.passed++;
    known.opsets.add(met.opset);
  }
  counts.set(op, known);
}

function summary({ passed, held, folded, wrong, refused }: Tally, of: number): string {
  const refusals = Object.values(refused).reduce((sum, n) => sum + n, 0);
  return [
    `Of ${of} cases ${passed} pass, ${refusals} are refused by name and ${wrong.length} are wrong.`,
    `In ${held} of those that pass an input that shapes depend on (axes, bounds, sizes) is held constant, as`,
    `in files that people export; in ${folded} nothing is then left to run.`,
  ].join("\n");
}
