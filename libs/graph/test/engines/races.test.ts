import ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { f32, tf } from "../tfjs/harness.ts";

/** y = x + x. */
function doubling() {
  const builder = builderOn(undefined, 17);
  const x = builder.input({ name: "x", dtype: "float32", shape: [4] });
  builder.output(builder.emit("Add", [x, x]), "y");
  return builder.finish();
}

const fed = (n: number) => new Map([["x", f32([4], [n, 0, 0, 0])]]);
const cancelled = { code: "cancelled" };

describe("two programs on two backends of one tfjs", () => {
  test("end, each with its own numbers, with a load between", async () => {
    const programs = [
      await tfjsEngine(tf, "wasm").load(doubling()),
      await tfjsEngine(tf, "cpu").load(doubling()),
    ];
    const steps = Array.from({ length: 20 }, (_, n) => programs[n % 2]!.step(fed(n)));
    const between = tfjsEngine(tf, "wasm").load(doubling());
    steps.push(programs[1]!.step(fed(20)));
    const firsts = (await Promise.all(steps)).map((outputs) => outputs.get("y")!.data[0]);
    expect(firsts).toEqual(firsts.map((_, n) => 2 * n));
    expect((await (await between).step(fed(3))).get("y")!.data[0]).toBe(6);
  });

  test("a backend that is not there leaves the queue open", async () => {
    const program = await tfjsEngine(tf, "cpu").load(doubling());
    const missing = tfjsEngine(tf, "nowhere").load(doubling());
    const step = program.step(fed(1));
    await expect(missing).rejects.toMatchObject({ code: "unavailable" });
    expect((await step).get("y")!.data[0]).toBe(2);
  });
});

describe.each([
  ["tfjs", () => tfjsEngine(tf, "cpu")],
  ["onnxruntime", () => onnxruntimeEngine(ort)],
] as const)("dispose on %s", (name, engine) => {
  test("twice is once, and a step after it is cancelled", async () => {
    const program = await engine().load(doubling());
    await program.dispose();
    await program.dispose();
    const before = tf.memory().numTensors;
    await expect(program.step(fed(1))).rejects.toMatchObject(cancelled);
    expect(tf.memory().numTensors).toBe(before);
  });

  test("under a step", async () => {
    const program = await engine().load(doubling());
    const step = program.step(fed(1));
    const disposed = program.dispose();
    // tfjs cancels a step that has not begun; onnxruntime's has, and is waited for.
    if (name === "tfjs") await expect(step).rejects.toMatchObject(cancelled);
    else expect((await step).get("y")!.data[0]).toBe(2);
    await disposed;
  });
});
