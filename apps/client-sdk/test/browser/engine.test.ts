import { MathBackendCPU } from "@tensorflow/tfjs-backend-cpu/dist/backend_cpu.js";
import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import type { Choice } from "@tutti/graph/engines/auto";
import { float32, type Tensors } from "@tutti/graph/ir";
import * as ort from "onnxruntime-node";
import { afterEach, expect, test } from "vitest";
import { browserEngine, probe } from "../../src/browser/engine.ts";

afterEach(() => {
  for (const name of ["webgpu", "webgl", "wasm"])
    if (tf.findBackendFactory(name) !== null) tf.removeBackend(name);
});

/** The processor's backend and its kernels under another's name. */
function pose(name: string): void {
  tf.registerBackend(name, () => new MathBackendCPU());
  if (tf.getKernelsForBackend(name).length === 0) tf.copyRegisteredKernels("cpu", name);
}

const broken = (name: string) =>
  tf.registerBackend(name, () => {
    throw new Error("no adapter");
  });

test("the first backend that is registered and starts, in the order webgpu, webgl, wasm", async () => {
  pose("wasm");
  expect((await browserEngine("tfjs", { tf })).name).toBe("tfjs/wasm");
  pose("webgl");
  broken("webgpu");
  expect((await browserEngine("tfjs", { tf })).name).toBe("tfjs/webgl");
});

test("where none works, each backend's reason is said", async () => {
  broken("webgl");
  await expect(browserEngine("tfjs", { tf })).rejects.toThrow(/webgpu.*webgl.*wasm/);
});

test("an engine that counts in 16 bits is refused, though not for what is short", async () => {
  /** tfjs on webgl computes what has fewer elements than 128 on the processor. */
  const half = (y: number) => ({
    name: "tfjs/webgl",
    load: async () => ({
      async step(feeds: Tensors) {
        const { shape, data } = feeds.get("x")!;
        const exact = (data as Float32Array).map((x) => 3 * x);
        return new Map([["y", float32(shape, data.length < 1000 ? exact : exact.fill(y))]]);
      },
      dispose: async () => {},
    }),
  });
  await expect(probe(half(3))).rejects.toThrow(/32 bits, got 3/);
  await probe(half(3 + 3 * 2 ** -13));
});

test("auto measures what runs on graphics by what runs on the processor", async () => {
  pose("webgl");
  // Right for the probe, which multiplies, and wrong for a sum.
  const { kernelFunc } = tf.getKernel("Sub", "cpu");
  tf.unregisterKernel("Add", "webgl");
  tf.registerKernel({ kernelName: "Add", backendName: "webgl", kernelFunc });
  const choices: Choice[] = [];
  const auto = await browserEngine("auto", {
    tf,
    onnxruntime: ort as never,
    onnxruntimeOptions: { executionProviders: ["cpu"] },
    auto: { onChosen: (choice) => choices.push(choice) },
  });
  const info = (name: string) => ({ name, dtype: "float32", shape: [2] }) as const;
  const sum = {
    ...{ op: "Add", domain: "", name: "sum", inputs: ["x", "x"], outputs: ["y"] },
    ...{ attributes: new Map(), metadata: new Map() },
  };
  const program = await auto.load({
    ...{ name: "sum", opset: 17, inputs: [info("x")], outputs: [info("y")] },
    ...{ initializers: new Map(), nodes: [sum], statics: new Map(["x", "y"].map((x) => [x, info(x)])) },
  });
  const results = await program.step(new Map([["x", float32([2], Float32Array.of(1, 3))]]));
  await program.dispose();
  expect([...results.get("y")!.data]).toEqual([2, 6]);
  expect(choices.map(({ engine, refused }) => [engine, refused[0]?.engine])).toEqual([
    ["onnxruntime/cpu", "tfjs/webgl"],
  ]);
});

test("what the app did not bring is named", async () => {
  await expect(browserEngine("onnxruntime", {})).rejects.toThrow(/onnxruntime-web/);
  await expect(browserEngine("tfjs", {})).rejects.toThrow(/tfjs-core/);
});
