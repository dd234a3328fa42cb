import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { mlp } from "../../graph/src/make/mlp.ts";
import { read } from "../../graph/src/read.ts";
import { write } from "../../graph/src/write.ts";
import { initialAdapter } from "../src/initial.ts";
import { resolve } from "../src/resolve.ts";
import type { AdapterSpec } from "../src/spec.ts";
import { base, CONV, LINEAR, node, random, TABLE, TWO } from "./bases.ts";

const model = read(write(mlp({ inputs: 6, hidden: [8, 4], outputs: 2, random: seededRandom(1) })));
const spec: AdapterSpec = { rank: 2, alpha: 4, targets: "all-linear" };
const lines = (changes: Partial<AdapterSpec>, of = model) =>
  resolve(of, { ...spec, ...changes }).tensors.map(({ name, shape }) => `${name} [${shape}]`);

describe("what a spec means", () => {
  test("all-linear: A and B of every linear layer, in the graph's order", () => {
    expect(lines({})).toEqual([
      "layers.0.lora_A.weight [2,6]",
      "layers.0.lora_B.weight [8,2]",
      "layers.1.lora_A.weight [2,8]",
      "layers.1.lora_B.weight [4,2]",
      "layers.2.lora_A.weight [2,4]",
      "layers.2.lora_B.weight [2,2]",
    ]);
  });

  test("a module that is trained whole gets no factors; a saved bias alone leaves them", () => {
    expect(lines({ save: ["layers.2"] }).slice(4)).toEqual(["layers.2.weight [2,4]", "layers.2.bias [2]"]);
    expect(lines({ targets: ["layers.2"], save: ["2.bias"] })).toEqual([
      "layers.2.lora_A.weight [2,4]",
      "layers.2.lora_B.weight [2,2]",
      "layers.2.bias [2]",
    ]);
  });

  test("the order of patterns does not matter", () => {
    expect(lines({ targets: ["2", "0"] })).toEqual(lines({ targets: ["layers.0", "layers.2"] }));
  });

  test("patterns give a module its rank and alpha, and so its scale", () => {
    const { modules } = resolve(model, {
      ...spec,
      rslora: true,
      rankPattern: { "layers.0": 4 },
      alphaPattern: { "1": 1 },
    });
    expect(modules.map(({ rank, alpha, scale }) => [rank, alpha, scale])).toEqual([
      [4, 4, 4 / 2],
      [2, 1, 1 / Math.SQRT2],
      [2, 4, 4 / Math.SQRT2],
    ]);
  });

  test("JSON carries the result, and another device gets an equal one", () => {
    const once = resolve(model, spec);
    expect(JSON.parse(JSON.stringify(once))).toEqual(once);
    expect(resolve(read(model.bytes.slice()), spec)).toEqual(once);
  });

  test("an anonymous model: operators are numbered; names may be given by hand", () => {
    const { bytes } = base(
      [node("MatMul", ["x", "W1"], "h"), node("MatMul", ["h", "W2"], "y")],
      { W1: [5, 4], W2: [4, 3] },
      { x: random([2, 5], "x") },
    );
    expect(resolve(read(bytes), spec).modules.map(({ module }) => module)).toEqual(["MatMul_0", "MatMul_1"]);
    const named = resolve(read(bytes), { ...spec, targets: ["head"] }, { names: { y: "head" } });
    expect(named.modules.map(({ weight }) => weight)).toEqual(["W2"]);
  });

  test("two weights in one module get names of their own", () => {
    const { bytes } = base(
      [
        node("MatMul", ["x", "U"], "h", {}, "/rnn/MatMul"),
        node("MatMul", ["h", "V"], "y", {}, "/rnn/MatMul_1"),
      ],
      { U: [5, 4], V: [4, 3] },
      { x: random([2, 5], "x") },
    );
    expect(resolve(read(bytes), spec).modules.map(({ module }) => module)).toEqual(["rnn", "rnn.MatMul_1"]);
  });

  test("a grouped convolution, a weight of rank 3 and integers are no candidates", () => {
    const { bytes } = base(
      [
        node("Conv", ["x", "grouped"], "a", { group: 2 }),
        node("MatMul", ["a", "rank3"], "b"),
        node("Gather", ["x", "index"], "c", { axis: 1 }),
        node("Add", ["b", "bias"], "y"),
      ],
      {
        grouped: [4, 2, 1, 1],
        rank3: [1, 3, 3],
        bias: [3],
        index: { dtype: "int64", shape: [], data: new BigInt64Array(1) },
      },
      { x: random([1, 4, 3, 3], "x") },
    );
    expect(() => resolve(read(bytes), spec)).toThrow(/all-linear.*a model with such weights/);
  });

  test("biases of MatMul then Add, norms and a shared bias go by the module's name", () => {
    expect(lines({ targets: ["0"], save: ["*"] }, read(TWO.bytes))).toEqual([
      "m.0.weight [4,5]",
      "m.0.bias [4]",
      "m.norm.weight [4]",
      "m.norm.bias [4]",
      "m.head.weight [4,4]",
      "m.head.bias [4]",
    ]);
  });
});

describe("refusals name the candidates", () => {
  test("a pattern that matches nothing is refused", () => {
    expect(() => resolve(model, { ...spec, targets: ["layers.0", "query"] })).toThrow(
      /target "query": expected one of layers\.0, layers\.1, layers\.2, got no match/,
    );
    expect(() => resolve(model, { ...spec, save: ["head.*"] })).toThrow(
      /save "head\.\*": expected one of layers\.0/,
    );
  });

  test.each([
    [{ targets: [] }, /something to train, got nothing/],
    [{ rank: 0 }, /rank: expected an integer in 1\.\.4096, got 0/],
    [{ rank: 1.5 }, /rank/],
    [{ alpha: -1 }, /alpha: expected a number above 0, got -1/],
    [{ alpha: Number.NaN }, /alpha/],
    [{ alphaPattern: { x: 0 } }, /alpha/],
  ])("%j is refused by name", (changes, message) => {
    expect(() => resolve(model, { ...spec, ...changes })).toThrow(message);
  });
});

describe("where training starts", () => {
  const adapter = resolve(model, { ...spec, rank: 8, targets: ["0", "1"], save: ["2"] });
  const start = initialAdapter(adapter, seededRandom(7), model);

  test("A is uniform in ±1/√in, B zero, saved tensors are the base's", () => {
    const a = start.get("layers.0.lora_A.weight")!;
    const bound = 1 / Math.sqrt(6);
    expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(Math.fround(bound));
    expect(Math.max(...a)).toBeGreaterThan(bound * 0.7);
    expect(Math.min(...a)).toBeLessThan(-bound * 0.7);
    expect(start.get("layers.1.lora_B.weight")!.every((value) => value === 0)).toBe(true);
    expect(start.get("layers.2.weight")).toEqual(model.graph.initializers.get("layers.2.weight")!.data);
  });

  test("a convolution's fan-in counts its kernel, a table's row has fan-in 1", () => {
    const largest = (bytes: Uint8Array) => {
      const of = read(bytes);
      const fresh = initialAdapter(resolve(of, { rank: 16, alpha: 1, targets: ["*"] }), seededRandom(1), of);
      return Math.max(...[...fresh.values()][0]!.map(Math.abs));
    };
    const [kernel, row] = [largest(CONV["1-D"]!.bytes), largest(TABLE.table!.bytes)];
    expect(kernel).toBeLessThanOrEqual(1 / Math.sqrt(5 * 3));
    expect(kernel).toBeGreaterThan(0.95 / Math.sqrt(5 * 3));
    expect(row).toBeLessThanOrEqual(1);
    expect(row).toBeGreaterThan(0.95);
  });

  test("the seed decides, and other targets do not", () => {
    expect(initialAdapter(adapter, seededRandom(7), model)).toEqual(start);
    const fewer = initialAdapter(
      resolve(model, { ...spec, rank: 8, targets: ["1"] }),
      seededRandom(7),
      model,
    );
    expect(fewer.get("layers.1.lora_A.weight")).toEqual(start.get("layers.1.lora_A.weight"));
    expect(initialAdapter(adapter, seededRandom(8), model)).not.toEqual(start);
  });

  test("another model's initializers are refused", () => {
    expect(() => initialAdapter(adapter, seededRandom(7), read(LINEAR["Gemm plain"]!.bytes))).toThrow(
      /initial layers/,
    );
  });
});

describe("targets beside plain products", () => {
  const image = { x: random([1, 4, 6, 6], "x") };

  test("a grouped convolution is refused by name, a 1×1 and a strided one are not", () => {
    const { bytes } = base(
      [
        node("Conv", ["x", "dw.weight"], "a", { group: 4 }, "/block/dw/Conv"),
        node("Conv", ["a", "pw.weight"], "b", {}, "/block/pw/Conv"),
        node("Conv", ["b", "down.weight"], "y", { strides: [2, 2] }, "/block/down/Conv"),
      ],
      { "dw.weight": [4, 1, 3, 3], "pw.weight": [8, 4, 1, 1], "down.weight": [6, 8, 3, 3] },
      image,
    );
    const of = read(bytes);
    expect(() => resolve(of, { ...spec, targets: ["dw"] })).toThrow(
      /adapter target "block\.dw": got a convolution in 4 groups\. Train it whole/,
    );
    expect(lines({ targets: ["*"] }, of)).toEqual([
      "block.pw.lora_A.weight [2,4,1,1]",
      "block.pw.lora_B.weight [8,2,1,1]",
      "block.down.lora_A.weight [2,8,3,3]",
      "block.down.lora_B.weight [6,2,1,1]",
    ]);
    expect(lines({ targets: ["pw"], save: ["dw"] }, of)).toContain("block.dw.weight [4,1,3,3]");
  });

  test("queries, keys and values in one weight are one module, as PEFT has it", () => {
    const { bytes } = base(
      [
        node("Gemm", ["x", "attn.c_attn.weight"], "qkv", {}, "/h.0/attn/c_attn/Gemm"),
        { ...node("Split", ["qkv"], "q", { axis: 1 }), outputs: ["q", "k", "v"] },
        node("Add", ["q", "k"], "qk"),
        node("Add", ["qk", "v"], "y"),
      ],
      { "attn.c_attn.weight": [6, 18] },
      { x: random([2, 6], "x") },
    );
    expect(lines({ targets: ["c_attn"] }, read(bytes))).toEqual([
      "h.0.attn.c_attn.lora_A.weight [2,6]",
      "h.0.attn.c_attn.lora_B.weight [18,2]",
    ]);
  });

  test("the weights of a recurrent cell are trained whole, under the cell's name", () => {
    const { bytes } = base(
      [node("GRU", ["x", "onnx::GRU_1", "onnx::GRU_2"], "y", { hidden_size: 5 }, "/rnn/GRU")],
      { "onnx::GRU_1": [1, 15, 4], "onnx::GRU_2": [1, 15, 5] },
      { x: random([3, 2, 4], "x") },
    );
    expect(lines({ targets: [], save: ["rnn.*"] }, read(bytes))).toEqual([
      "rnn.W [1,15,4]",
      "rnn.R [1,15,5]",
    ]);
    expect(() => resolve(read(bytes), { ...spec, targets: ["rnn"] })).toThrow(/a model with such weights/);
  });
});
