import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { expect, test } from "vitest";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { read } from "../../src/read.ts";
import { int64 } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";
import { widened } from "../../src/widen.ts";
import { expectTensor } from "../compare.ts";
import { shared } from "../shared.ts";

test("a half-precision BERT in float32: no half is left, the numbers stay", async () => {
  const path = shared("conformance/quantised/bert.fp16.onnx");
  if (!path) return;
  const { graph } = read(readFileSync(path));
  const bind = { symbols: { batch: 2 } };
  const [half, wide] = [trace(graph, bind), trace(widened(graph), bind)];
  const dtypes = (traced: typeof wide) => new Set([...traced.statics.values()].map(({ dtype }) => dtype));
  expect([dtypes(half).has("float16"), dtypes(wide).has("float16")]).toEqual([true, false]);

  const ids = Array.from({ length: 16 }, (_, i) => (i * 5) % 60);
  const feeds = new Map([
    ["input_ids", int64(ids, [2, 8])],
    ["attention_mask", int64(new Array(16).fill(1), [2, 8])],
  ]);
  const results = await Promise.all(
    [half, wide].map(async (traced) => {
      const program = await onnxruntimeEngine(ort).load(traced);
      const outputs = await program.step(feeds);
      await program.dispose();
      return outputs;
    }),
  );
  const name = half.outputs[0]!.name;
  // Half has 11 significant bits; a few layers of them.
  expectTensor(results[0]!.get(name), results[1]!.get(name)!, { what: name, absolute: 5e-3 });
});
