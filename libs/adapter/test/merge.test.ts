import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { float32, sizeOf } from "../../graph/src/ir.ts";
import { read } from "../../graph/src/read.ts";
import { trace } from "../../graph/src/trace.ts";
import { initialAdapter } from "../src/initial.ts";
import { inject } from "../src/inject.ts";
import { merge } from "../src/merge.ts";
import { resolve } from "../src/resolve.ts";
import type { AdapterSpec, ResolvedAdapter } from "../src/spec.ts";
import { type Base, base, CONV, halves, LINEAR, node, random, stored, TABLE, TIED, TWO } from "./bases.ts";
import { apart, engine, runFile } from "./golden.ts";

type Tensors = Map<string, Float32Array>;

function drawn({ tensors }: ResolvedAdapter, seed: string): Tensors {
  const dice = seededRandom(seed);
  return new Map(
    tensors.map(({ name, shape }) => [name, Float32Array.from({ length: sizeOf(shape) }, dice.normal)]),
  );
}

async function runInjected(
  { bytes, feeds }: Base,
  adapter: ResolvedAdapter,
  tensors: Tensors,
): Promise<Float32Array> {
  const program = await engine.load(inject(trace(read(bytes).graph), adapter));
  const inputs = adapter.tensors.map(
    ({ name, shape }) => [name, float32(shape, tensors.get(name)!)] as const,
  );
  const results = await program.step(new Map([...feeds, ...inputs]));
  await program.dispose();
  return results.get("y")!.data as Float32Array;
}

const output = async (bytes: Uint8Array, { feeds }: Base) => (await runFile(bytes, feeds)).get("y")!;

/** Merged file against injected graph, and both well away from the base. */
async function agree(model: Base, spec: AdapterSpec, tolerance = 1e-5): Promise<Uint8Array> {
  const adapter = resolve(read(model.bytes), spec);
  const tensors = drawn(adapter, "factors");
  const merged = merge(model.bytes, adapter, tensors);
  const [after, injected, before] = [
    await output(merged, model),
    await runInjected(model, adapter, tensors),
    await output(model.bytes, model),
  ];
  const size = Math.max(1, ...Array.from(after, Math.abs));
  expect(apart(after, injected) / size).toBeLessThan(tolerance);
  expect(apart(after, before)).toBeGreaterThan(0.1);
  return merged;
}

const spec: AdapterSpec = { rank: 2, alpha: 3, targets: ["fc"] };

describe("merged file and injected graph give the same answers in onnxruntime", () => {
  test.each(Object.entries({ ...LINEAR, ...CONV, ...TABLE }))("of %s", async (name, model) => {
    await agree(model, spec, name.includes("float16") ? 2e-3 : 1e-5);
  });

  test.each(["float_data", "Constant"] as const)("weights in %s", async (how) => {
    for (const model of [LINEAR["Gemm transB"]!, CONV["3×3 dilated"]!]) await agree(stored(model, how), spec);
  });

  test("any sizes, ranks and alphas, either orientation", async () => {
    const sizes = fc.record({
      wide: fc.integer({ min: 1, max: 9 }),
      out: fc.integer({ min: 1, max: 9 }),
      rank: fc.integer({ min: 1, max: 12 }),
      alpha: fc.double({ min: 0.5, max: 64, noNaN: true }),
      rslora: fc.boolean(),
      transB: fc.constantFrom(0, 1),
    });
    await fc.assert(
      fc.asyncProperty(sizes, async ({ wide, out, transB, ...rest }) => {
        const weight = transB ? [out, wide] : [wide, out];
        const model = base(
          [node("Gemm", ["x", "fc.weight"], "y", { transB })],
          { "fc.weight": weight },
          { x: random([4, wide], "x") },
        );
        const adapter = resolve(read(model.bytes), { ...rest, targets: ["fc"] });
        const tensors = drawn(adapter, "any");
        const merged = await output(merge(model.bytes, adapter, tensors), model);
        const size = Math.max(1, ...Array.from(merged, Math.abs));
        expect(apart(merged, await runInjected(model, adapter, tensors)) / size).toBeLessThan(1e-5);
      }),
      { numRuns: 25 },
    );
  });
});

/** docs/onnx.md, Adapter files, word for word: W'[o,i] = W[o,i] + s·Σ_r B[o,r]·A[r,i]. */
function slowTwin(
  weight: Float32Array,
  { a, b }: { a: Float32Array; b: Float32Array },
  scale: number,
): number[] {
  const at = (o: number, i: number) => {
    let sum = 0;
    for (let r = 0; r < 2; r++) sum += b[o * 2 + r]! * a[r * 5 + i]!;
    return Math.fround(weight[o * 5 + i]! + scale * sum);
  };
  return Array.from({ length: 20 }, (_, k) => at(Math.floor(k / 5), k % 5));
}

test("the merged weight is the formula's, in the file's orientation", () => {
  const model = LINEAR["Gemm transB"]!;
  const adapter = resolve(read(model.bytes), spec);
  const tensors = drawn(adapter, "twin");
  const [a, b] = [tensors.get("fc.lora_A.weight")!, tensors.get("fc.lora_B.weight")!];
  const weight = (bytes: Uint8Array) => read(bytes).graph.initializers.get("fc.weight")!.data as Float32Array;
  const wanted = slowTwin(weight(model.bytes), { a, b }, 3 / 2);
  expect(apart(weight(merge(model.bytes, adapter, tensors)), wanted)).toBeLessThan(1e-6);
});

describe("every byte outside the weight stays", () => {
  const outside = (before: Uint8Array, after: Uint8Array, weight: Uint8Array) => {
    expect(after.length).toBe(before.length);
    const at = Buffer.from(before).indexOf(weight);
    expect(at).toBeGreaterThan(0);
    const same = (from: number, to: number) =>
      Buffer.compare(before.subarray(from, to), after.subarray(from, to)) === 0;
    expect([same(0, at), same(at, at + weight.length), same(at + weight.length, before.length)]).toEqual([
      true,
      false,
      true,
    ]);
  };
  const raw = (model: Base) => {
    const { data } = read(model.bytes).graph.initializers.get("fc.weight")!;
    const { buffer, byteOffset, byteLength } = data as Float32Array;
    return new Uint8Array(buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer);
  };

  test.each(Object.entries({ ...LINEAR, ...CONV, ...TABLE }))("%s", (_, model) => {
    const adapter = resolve(read(model.bytes), spec);
    outside(model.bytes, merge(model.bytes, adapter, drawn(adapter, "x")), raw(model));
  });

  test.each(["float_data", "Constant"] as const)("weights in %s", (how) => {
    const model = stored(LINEAR["MatMul then Add"]!, how);
    const adapter = resolve(read(model.bytes), spec);
    outside(model.bytes, merge(model.bytes, adapter, drawn(adapter, "x")), raw(model));
  });

  test("an adapter at its beginning changes not one bit, not even of float16", () => {
    for (const model of [TWO, TIED, LINEAR["through a Cast from float16"]!, CONV["1-D"]!]) {
      const parsed = read(model.bytes);
      const adapter = resolve(parsed, { rank: 2, alpha: 4, targets: ["*"] });
      const start = initialAdapter(adapter, seededRandom(1), parsed);
      const merged = merge(model.bytes, adapter, start);
      if (model !== TIED) expect(Buffer.compare(merged, model.bytes)).toBe(0);
      expect([...start.keys()]).toEqual(adapter.tensors.map(({ name }) => name));
    }
  });
});

describe("shared weights", () => {
  test("a tied table: adapting the head leaves the embedding alone, for one copy", async () => {
    const merged = await agree(TIED, { rank: 2, alpha: 3, targets: ["head"] });
    const { graph } = read(merged);
    expect([...graph.initializers.keys()]).toEqual(["emb.weight", "emb.weight/head"]);
    expect(graph.initializers.get("emb.weight")).toEqual(
      read(TIED.bytes).graph.initializers.get("emb.weight"),
    );
    expect(graph.initializers.get("emb.weight/head")!.shape).toEqual([4, 7]);
    expect(merged.length - TIED.bytes.length).toBeLessThan(4 * 28 + 64 + 256);
  });

  test("a tied table: adapting the embedding leaves the head alone", async () => {
    await agree(TIED, { rank: 2, alpha: 3, targets: ["emb"] });
  });

  test("both of them adapted: each has its own copy of the base", async () => {
    const merged = await agree(TIED, { rank: 2, alpha: 3, targets: ["emb", "head"] });
    expect([...read(merged).graph.initializers.keys()].slice(1)).toEqual([
      "emb.weight/emb",
      "emb.weight/head",
    ]);
  });

  test("a bias that three nodes share is trained at one of them", async () => {
    const merged = await agree(TWO, { rank: 2, alpha: 3, targets: ["0"], save: ["head"] });
    const { graph } = read(merged);
    expect([...graph.initializers.keys()]).toContain("zero/m.head.bias");
    expect(graph.nodes.map(({ inputs }) => inputs.at(-1))).toEqual([
      "zero",
      "zero",
      "onnx::MatMul_7",
      "zero/m.head.bias",
    ]);
  });

  test("a converted weight that others read too is refused by name", () => {
    const model = base(
      [
        node("Cast", ["w"], "c", { to: 1 }),
        node("MatMul", ["x", "c"], "h", {}, "/fc/MatMul"),
        node("MatMul", ["h", "c"], "y", {}, "/other/MatMul"),
      ],
      { w: halves([5, 5]) },
      { x: random([2, 5], "x") },
    );
    const adapter = resolve(read(model.bytes), spec);
    expect(() => merge(model.bytes, adapter, drawn(adapter, "x"))).toThrow(/fc, weight w: expected float32/);
  });
});

describe("refusals", () => {
  const model = LINEAR["Gemm plain"]!;
  const adapter = resolve(read(model.bytes), spec);
  const tensors = drawn(adapter, "x");

  test("another base is refused by hash", () => {
    expect(() => merge(LINEAR["Gemm transB"]!.bytes, adapter, tensors)).toThrow(
      /base model: expected SHA-256/,
    );
  });

  test("a tensor that is missing or of another size is refused by name", () => {
    const short = new Map([...tensors, ["fc.lora_A.weight", new Float32Array(3)]]);
    expect(() => merge(model.bytes, adapter, short)).toThrow(/fc\.lora_A\.weight: expected 10 values, got 3/);
    expect(() => merge(model.bytes, adapter, new Map())).toThrow(/expected 10 values, got none/);
  });

  test("a quantised weight is refused by type, and the error says to attach", () => {
    const weights = {
      "fc.weight": { dtype: "int8", shape: [5, 4], data: new Int8Array(20).fill(3) },
      scale: random([], "scale"),
    } as const;
    const nodes = [node("DequantizeLinear", ["fc.weight", "scale"], "w"), node("MatMul", ["x", "w"], "y")];
    const { bytes } = base(nodes, weights, { x: random([2, 5], "x") });
    const quantised = resolve(read(bytes), spec);
    expect(() => merge(bytes, quantised, drawn(quantised, "x"))).toThrow(/data type 3.*Attach the adapter/);
  });
});
