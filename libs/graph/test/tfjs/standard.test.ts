import { describe, expect, test } from "vitest";
import { sizeOf } from "../../src/ir.ts";
import { type BackendCase, backendCases, wholeModels } from "../backend-cases.ts";
import { NIGHTLY } from "../runs.ts";
import { BACKENDS, tf } from "./harness.ts";
import { runCase, runWhole } from "./standard-run.ts";

/** How many of the standard's cases run today on each backend; only ever raised. */
const RUN_CASES = { wasm: 904, cpu: NIGHTLY ? 904 : 899 };

/** Elements up to which a case runs on cpu by day: beyond, one takes seconds. wasm runs them all. */
const LARGE = 50_000;

/**
 * The ONNX standard's own cases that onnxruntime itself passes: whatever loads must compute the standard's
 * values; whatever does not must be refused by name. Neither may leave a tensor behind.
 */
describe.each(BACKENDS)("ONNX backend node tests on tfjs/%s", (backend) => {
  const cases = backendCases().filter(({ ort }) => ort);
  const small = ({ inputs }: BackendCase) => inputs.every((tensor) => sizeOf(tensor.shape) <= LARGE);
  const due = backend === "cpu" && !NIGHTLY ? cases.filter(small) : cases;
  const refused: string[] = [];
  let ran = 0;

  test.each(due.map((item) => [item.name, item] as const))("%s", async (name, item) => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const outcome = await runCase({ tf, backend }, item);
    expect(tf.memory().numTensors, "tensors after a case").toBe(before);
    if (outcome.kind === "wrong") expect.fail(outcome.why);
    if (outcome.kind === "passed") ran++;
    else refused.push(`${name}: ${outcome.fault.message}`);
  });

  test.skipIf(cases.length === 0)("as many as before", () => {
    if (refused.length > 0) console.log(refused.join("\n"));
    console.log(`${backend}: ${ran} of ${due.length} cases ran`);
    expect(ran).toBeGreaterThanOrEqual(RUN_CASES[backend]);
  });
});

test.each(wholeModels().map((model) => [model.name, model] as const))("%s, whole", async (_, model) => {
  await tf.setBackend("wasm");
  expect(await runWhole({ tf, backend: "wasm" }, model)).toEqual([]);
});
