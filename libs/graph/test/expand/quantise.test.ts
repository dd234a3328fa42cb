import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { expanded } from "../../src/expand/expand.ts";
import type { Tensor, TracedGraph } from "../../src/ir.ts";
import { range } from "../../src/ops.ts";
import { tensorOf } from "../../src/tensor.ts";
import { agrees, type Case, f32, i32 } from "../tfjs/harness.ts";

const u8 = (shape: readonly number[], values: readonly number[]): Tensor => tensorOf("uint8", shape, values);
const i8 = (shape: readonly number[], values: readonly number[]): Tensor => tensorOf("int8", shape, values);

const random = seededRandom(7);
const draw = (count: number, [low, high]: readonly [number, number]) =>
  Array.from({ length: count }, () => low + (high - low) * random.uniform());
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const floats = (shape: readonly number[], range: readonly [number, number] = [-2, 2]) =>
  f32(shape, draw(sizeOf(shape), range));
const bytes = (shape: readonly number[]) => u8(shape, draw(sizeOf(shape), [0, 255.99]).map(Math.floor));
const signed = (shape: readonly number[]) => i8(shape, draw(sizeOf(shape), [-128, 127.99]).map(Math.floor));
const s = (value: number) => f32([], [value]);

/** onnxruntime and tfjs agree to the level, or to the last bit of a float. */
const exactly = (test: Case): Promise<void> => agrees(test, 0);

/** How many float products a graph's integer ones become. */
function products(graph: TracedGraph): number {
  const plain = expanded(graph, { wanted: ({ op }) => op === "MatMulInteger" });
  return plain.nodes.filter(({ op }) => op === "MatMul").length;
}

describe("QuantizeLinear", () => {
  // Halves go to the even level, and what is beyond the levels to the last one.
  const x = f32([2, 4], [-300, -1.5, -0.5, 0.5, 1.5, 2.5, 100.4, 300]);

  test("ties to even, saturating, uint8 without a zero point", () =>
    exactly({ op: "QuantizeLinear", inputs: [x, s(1)] }));
  test("int8 with a zero point, operator set 10", () =>
    exactly({ op: "QuantizeLinear", opset: 10, inputs: [x, s(0.5), i8([], [-3])] }));
  for (const axis of [0, 1, -1, -2])
    test(`axis ${axis}`, () => {
      const count = x.shape.at(axis)!;
      const inputs = [x, floats([count], [0.5, 2]), u8([count], range(count))];
      return exactly({ op: "QuantizeLinear", inputs, attributes: { axis } });
    });
  test("blocks, the last one cut short", () => {
    const inputs = [floats([3, 7]), floats([3, 3], [0.01, 0.02]), bytes([3, 3])];
    return exactly({ op: "QuantizeLinear", opset: 21, inputs, attributes: { axis: 1, block_size: 3 } });
  });
  test("output_dtype", () =>
    exactly({ op: "QuantizeLinear", opset: 21, inputs: [x, s(1)], attributes: { output_dtype: 3 } }));
  test("com.microsoft", () =>
    exactly({ op: "QuantizeLinear", domain: "com.microsoft", inputs: [x, s(0.7), u8([], [9])] }));

  test("blocks that do not fit are refused by name", () => {
    const b = builderOn(undefined, 21);
    const [it, scale] = [b.constant(floats([4, 6])), b.constant(floats([4, 5]))];
    expect(() => b.emit("QuantizeLinear", [it, scale], { axis: 1, block_size: 3 })).toThrow(/scale/);
  });
});

describe("DequantizeLinear", () => {
  test("one scale serves the whole tensor", () =>
    exactly({ op: "DequantizeLinear", inputs: [bytes([5]), s(0.3), u8([], [7])] }));
  test("int32, as biases are", () =>
    exactly({ op: "DequantizeLinear", inputs: [i32([3], [-70000, 0, 123]), s(0.01)] }));
  for (const axis of [0, 1, -1])
    test(`axis ${axis}`, () => {
      const x = signed([2, 3, 4]);
      const count = x.shape.at(axis)!;
      const inputs = [x, floats([count], [0.5, 2]), signed([count])];
      return exactly({ op: "DequantizeLinear", inputs, attributes: { axis } });
    });
  test("a scale per block is spread over its block", () => {
    const inputs = [signed([6, 2]), floats([3, 2]), signed([3, 2])];
    return exactly({ op: "DequantizeLinear", opset: 21, inputs, attributes: { axis: 0, block_size: 2 } });
  });
});

describe("DynamicQuantizeLinear", () => {
  const cases: readonly (readonly [string, Tensor])[] = [
    ["both signs", floats([3, 5])],
    ["all positive", floats([6], [1, 3])],
    ["all negative", floats([6], [-3, -1])],
    ["nothing but zeros", f32([4], [0, 0, 0, 0])],
  ];
  for (const [name, x] of cases)
    test(name, () => agrees({ op: "DynamicQuantizeLinear", inputs: [x], outputs: 3 }, 1e-7));
});

describe("MatMulInteger", () => {
  test("zero points one and per column", () => {
    const inputs = [bytes([3, 8]), signed([8, 4]), u8([], [130]), signed([4])];
    return exactly({ op: "MatMulInteger", inputs });
  });
  test("batches", () => exactly({ op: "MatMulInteger", inputs: [bytes([2, 3, 5]), bytes([2, 5, 4])] }));

  // 2000·255·255 needs 27 bits: a float32 sum would round.
  const length = 2000;
  const odd = (shape: readonly number[]) => u8(shape, draw(sizeOf(shape), [200, 255.99]).map(Math.floor));
  for (const constant of [[], [1]])
    test(`sums beyond 2^24 stay exact, weight ${constant.length ? "held" : "fed"}`, () =>
      exactly({ op: "MatMulInteger", inputs: [odd([2, length]), odd([length, 3])], constant }));

  test("a held weight of small sums is not cut", () => {
    const counts = [4, 255].map((level) => {
      const b = builderOn(undefined, 17);
      const a = b.input({ name: "a", dtype: "uint8", shape: [2, length] });
      const w = b.constant(tensorOf("int8", [length, 3], new Array(3 * length).fill(level - 128)));
      const zero = b.constant(tensorOf("int8", [], [-128]));
      b.output(b.emit("MatMulInteger", [a, w, "", zero]), "y");
      return products(b.finish());
    });
    expect(counts[0]).toBe(1);
    expect(counts[1]).toBeGreaterThan(1);
  });
});

describe("ConvInteger", () => {
  const pads = [1, 0, 1, 2];
  test("padding stands for the zero point", () =>
    exactly({
      op: "ConvInteger",
      inputs: [bytes([1, 2, 5, 4]), signed([3, 2, 3, 2]), u8([], [77])],
      attributes: { pads },
    }));
  test("groups, strides, dilations, a zero point for the weight", () => {
    const attributes = { group: 2, strides: [2, 1], dilations: [1, 2], pads: [1, 0, 2, 1] };
    const inputs = [bytes([2, 4, 7, 6]), bytes([4, 2, 3, 2]), u8([], [3]), u8([], [128])];
    return exactly({ op: "ConvInteger", inputs, attributes });
  });
  test("sums beyond 2^24 stay exact", () => {
    const high = (shape: readonly number[]) => u8(shape, draw(sizeOf(shape), [200, 255.99]).map(Math.floor));
    return exactly({ op: "ConvInteger", inputs: [high([1, 150, 4, 4]), high([2, 150, 3, 3])] });
  });
});

describe("QLinearMatMul", () => {
  const result = [s(3), u8([], [120])] as const;
  test("one scale each", () => {
    const inputs = [
      bytes([2, 3, 6]),
      s(0.02),
      u8([], [128]),
      bytes([2, 6, 4]),
      s(0.5),
      u8([], [100]),
      ...result,
    ];
    return exactly({ op: "QLinearMatMul", inputs });
  });
  test("a scale per column, signed weights", () => {
    const weight = [signed([6, 4]), floats([4], [0.01, 0.03]), i8([4], [0, 0, 0, 0])];
    const inputs = [bytes([3, 6]), s(0.2), u8([], [128]), ...weight, s(0.3), u8([], [120])];
    return exactly({ op: "QLinearMatMul", inputs, constant: [1, 2, 3, 4, 5, 6, 7] });
  });
});

describe("QLinearConv", () => {
  const image = [bytes([2, 4, 6, 5]), s(0.02), u8([], [130])];
  const weight = [signed([6, 2, 3, 3]), floats([6], [0.01, 0.02]), i8([6], [0, 0, 0, 0, 0, 0])];
  const bias = i32([6], [-900, 0, 50, 700, 20000, -3]);
  const attributes = { group: 2, pads: [1, 1, 1, 1], strides: [2, 1] };
  test("a scale per filter and a bias", () =>
    exactly({
      op: "QLinearConv",
      inputs: [...image, ...weight, s(0.05), u8([], [128]), bias],
      attributes,
      constant: [1, 2, 3, 4, 5, 6, 7, 8],
    }));
});

describe("com.microsoft", () => {
  const domain = "com.microsoft";
  // Scales whose ratios make no ties: where one falls depends on how often a kernel rounds on the way.
  const a = [bytes([2, 3, 4]), s(0.0213), u8([], [128])];
  const b = [bytes([3, 1]), s(0.0317), u8([], [9])];
  const y = [s(0.0401), u8([], [110])];

  test("QLinearAdd", () => exactly({ op: "QLinearAdd", domain, inputs: [...a, ...b, ...y] }));
  test("QLinearMul", () => exactly({ op: "QLinearMul", domain, inputs: [...a, ...b, ...y] }));
  test("QLinearSigmoid", () =>
    exactly({
      op: "QLinearSigmoid",
      domain,
      inputs: [...a, s(1 / 256), u8([], [0])],
      constant: [1, 2, 3, 4],
    }));
  test("QLinearLeakyRelu", () => {
    const attributes = { alpha: { float: 0.3 } };
    return exactly({
      op: "QLinearLeakyRelu",
      domain,
      inputs: [...a, ...y],
      attributes,
      constant: [1, 2, 3, 4],
    });
  });
  for (const channels_last of [0, 1])
    test(`QLinearGlobalAveragePool, channels ${channels_last ? "last" : "first"}`, () => {
      const inputs = [bytes([2, 3, 4, 5]), s(0.0213), u8([], [128]), s(0.0117), u8([], [128])];
      return exactly({ op: "QLinearGlobalAveragePool", domain, inputs, attributes: { channels_last } });
    });
  test("QLinearConcat", () => {
    const parts = [bytes([2, 3]), s(0.02), u8([], [7]), bytes([2, 2]), s(0.05), u8([], [200])];
    return exactly({
      op: "QLinearConcat",
      domain,
      inputs: [...y, ...parts],
      attributes: { axis: 1 },
      constant: [0, 1, 3, 4, 6, 7],
    });
  });

  const weight = [signed([6, 4]), floats([4], [0.01, 0.03]), i8([4], [0, 0, 0, 0])];
  const turned = [signed([4, 6]), weight[1]!, weight[2]!];
  const c = i32([4], [-1000, 3, 2000, 40]);
  test("QGemm to levels, B turned, with a bias", () => {
    const inputs = [bytes([3, 6]), s(0.02), u8([], [128]), ...turned, c, s(0.2), u8([], [100])];
    return exactly({
      op: "QGemm",
      domain,
      inputs,
      attributes: { transB: 1 },
      constant: [1, 2, 3, 4, 5, 6, 7, 8],
    });
  });
  test("QGemm to float, scaled", () => {
    const inputs = [bytes([3, 6]), s(0.02), u8([], [128]), ...weight, c];
    return agrees({ op: "QGemm", domain, inputs, attributes: { alpha: { float: 0.5 } } }, 1e-6);
  });
  test("DynamicQuantizeMatMul", () => {
    const inputs = [floats([2, 3, 6]), ...weight, floats([4])];
    return agrees({ op: "DynamicQuantizeMatMul", domain, inputs, constant: [1, 2, 3, 4] }, 1e-6);
  });
  test("MatMulIntegerToFloat", () => {
    const inputs = [bytes([3, 6]), weight[0]!, s(0.1), weight[1]!, u8([], [120]), undefined, floats([4])];
    return agrees({ op: "MatMulIntegerToFloat", domain, inputs }, 1e-6);
  });
});

describe("MatMulNBits", () => {
  const [K, N] = [40, 3];
  const matrix = (bits: number, block_size: number, zeros: "none" | "packed" | "float"): Case => {
    const blocks = Math.ceil(K / block_size);
    const zero = {
      none: undefined,
      packed: bytes([N * Math.ceil((blocks * bits) / 8)]),
      float: floats([N, blocks], [0, 2 ** bits]),
    }[zeros];
    return {
      op: "MatMulNBits",
      domain: "com.microsoft",
      inputs: [
        floats([2, 2, K]),
        bytes([N, blocks, (block_size * bits) / 8]),
        floats([N, blocks], [0, 0.1]),
        zero,
      ],
      attributes: { K, N, bits, block_size },
      constant: [1, 2, 3],
    };
  };
  // onnxruntime has no kernel for 8 bits with zero points in float.
  for (const bits of [2, 4, 8])
    for (const block of [16, 32])
      for (const zeros of ["none", "packed", ...(bits < 8 ? (["float"] as const) : [])] as const)
        test(`${bits} bits, blocks of ${block}, zero points ${zeros}`, () =>
          agrees(matrix(bits, block, zeros)));

  test("bias", () => {
    const { inputs, ...rest } = matrix(4, 32, "none");
    return agrees({
      ...rest,
      inputs: [...inputs.slice(0, 3), undefined, undefined, floats([N])],
      constant: [1, 2, 5],
    });
  });
});
