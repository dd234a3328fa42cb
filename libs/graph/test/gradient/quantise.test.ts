import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { seededRandom } from "@tutti/foundation/random";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { type Builder, builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import type { Tensor } from "../../src/ir.ts";
import { numbers, tensorOf } from "../../src/tensor.ts";
import { close } from "./check.ts";

const ENGINES = [onnxruntimeEngine(ort), tfjsEngine(tf, "wasm")];

const random = seededRandom(11);
const draw = (count: number, [low, high]: readonly [number, number]) =>
  Array.from({ length: count }, () => Math.fround(low + (high - low) * random.uniform()));
const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const floats = (shape: readonly number[], range: readonly [number, number] = [-2, 2]): Tensor =>
  tensorOf("float32", shape, draw(size(shape), range));
const signed = (shape: readonly number[]): Tensor =>
  tensorOf("int8", shape, draw(size(shape), [-128, 127.9]).map(Math.floor));
const bytes = (shape: readonly number[]): Tensor =>
  tensorOf("uint8", shape, draw(size(shape), [0, 255.9]).map(Math.floor));
const s = (value: number): Tensor => tensorOf("float32", [], [value]);
const zeroPoint = (dtype: "uint8" | "int8", value: number): Tensor => tensorOf(dtype, [], [value]);

/** A forward: from the names of its float inputs to a float value. */
type Forward = (b: Builder, names: readonly string[]) => string;
type Inputs = readonly Tensor[];

/** Gradients of Σ w·forward(inputs) on each engine, w random but the same for equal shapes. */
async function gradients(forward: Forward, inputs: Inputs, opset = 17): Promise<readonly Tensor[][]> {
  const b = builderOn(undefined, opset);
  const names = inputs.map((tensor, i) =>
    b.input({ name: `x${i}`, dtype: tensor.dtype, shape: tensor.shape }),
  );
  const y = forward(b, names);
  const shape = b.shape(y);
  const weights = seededRandom(5);
  const w = b.constant(
    tensorOf(
      "float32",
      shape,
      Array.from({ length: size(shape) }, () => weights.uniform()),
    ),
  );
  const axes = shape.map((_, axis) => axis);
  b.output(b.emit("ReduceSum", [b.emit("Mul", [y, w])], { axes, keepdims: 0 }), "loss");
  const derived = differentiate(b.finish(), { loss: "loss", wrt: names });
  expect(new Set(derived.nodes.map(({ domain }) => domain))).toEqual(new Set([""]));
  await tf.setBackend("wasm");
  return Promise.all(
    ENGINES.map(async (engine) => {
      const program = await engine.load(derived);
      const results = await program.step(new Map(names.map((name, i) => [name, inputs[i]!])));
      await program.dispose();
      return names.map((name) => results.get(`grad.${name}`)!);
    }),
  );
}

/** Both forwards have the same gradients, on both engines. */
async function same(levels: Forward, plain: Forward, inputs: Inputs, opset = 17): Promise<void> {
  const [wanted] = await gradients(plain, inputs, opset);
  for (const [at, got] of (await gradients(levels, inputs, opset)).entries())
    for (const [i, tensor] of got.entries()) {
      const what = `input ${i} on ${ENGINES[at]!.name}`;
      expect(Math.max(...numbers(wanted![i]!).map(Math.abs)), "a gradient to compare with").toBeGreaterThan(
        0,
      );
      close(tensor, numbers(wanted![i]!), { tolerance: 1e-5, what });
    }
}

/** Levels as the floats they stand for, without the library: (level − zero)·scale along the last axis. */
function real(levels: Tensor, scale: readonly number[], zero: readonly number[] = [0]): Tensor {
  const values = numbers(levels).map(
    (level, i) => (level - zero[i % zero.length]!) * scale[i % scale.length]!,
  );
  return tensorOf("float32", levels.shape, values);
}

const quantise = (b: Builder, x: string, scale: string, zero: string, attributes = {}) =>
  b.emit("QuantizeLinear", [x, scale, zero], attributes);
const dequantise = (b: Builder, x: string, scale: string, zero: string, attributes = {}) =>
  b.emit("DequantizeLinear", [x, scale, zero], attributes);

describe("QuantizeLinear and DequantizeLinear", () => {
  // Levels −128…127 around −3 in steps of 0.5: from −62.5 to 65.
  const x = tensorOf("float32", [7], [-70, -62.8, -62.7, 0.3, 65.2, 65.3, 70]);
  const inside = tensorOf("float32", [7], [0, 0, 1, 1, 1, 0, 0]);
  const fake: Forward = (b, [it]) => {
    const [scale, zero] = [b.constant(s(0.5)), b.constant(zeroPoint("int8", -3))];
    return dequantise(b, quantise(b, it!, scale, zero), scale, zero);
  };
  const gated: Forward = (b, [it]) => b.emit("Mul", [it!, b.constant(inside)]);
  test("passes where nothing saturates and stops where it does", () => same(fake, gated, [x]));
  test("a graph of operator set 10 trains as one of today", () => same(fake, gated, [x], 10));

  for (const axis of [0, 1])
    test(`per index of axis ${axis}`, async () => {
      const scale = floats([3], [0.5, 2]);
      const it: Forward = (b, [name]) => {
        const [one, other] = [b.constant(scale), b.constant(tensorOf("float32", [3], [1, 2, 4]))];
        const zero = b.constant(signed([3]));
        return dequantise(b, quantise(b, name!, one, zero, { axis }), other, zero, { axis });
      };
      const plain: Forward = (b, [name]) => {
        const shape = axis === 0 ? [3, 1] : [1, 3];
        const [one, other] = [numbers(scale), [1, 2, 4]];
        return b.emit("Mul", [
          name!,
          b.constant(
            tensorOf(
              "float32",
              shape,
              one.map((v, i) => other[i]! / v),
            ),
          ),
        ]);
      };
      // Small values, and zero points drawn between the ends: nothing saturates.
      await same(it, plain, [floats([3, 3], [-0.4, 0.4])]);
    });

  test("a weight scaled by blocks passes each block's gradient", () => {
    const attributes = { axis: 1, block_size: 2 };
    const scale = tensorOf("float32", [1, 2], [0.5, 2]);
    const it: Forward = (b, [name]) => {
      const [one, zero] = [b.constant(scale), b.constant(tensorOf("uint8", [1, 2], [128, 100]))];
      const level = quantise(b, name!, one, zero, attributes);
      return dequantise(b, level, b.constant(tensorOf("float32", [1, 2], [1, 1])), zero, attributes);
    };
    const plain: Forward = (b, [name]) =>
      b.emit("Mul", [name!, b.constant(tensorOf("float32", [1, 4], [2, 2, 0.5, 0.5]))]);
    return same(it, plain, [floats([1, 4])], 21);
  });
});

/** x quantised as it comes, times a held weight: what dynamic quantisation writes for a layer. */
const layer =
  (weight: Tensor, zero: Tensor, scale: number): Forward =>
  (b, [x]) => {
    const [level, step, point] = b.emitMany("DynamicQuantizeLinear", [x!], { outputs: 3 });
    const sum = b.emit("MatMulInteger", [level!, b.constant(weight), point!, b.constant(zero)]);
    const scales = b.emit("Mul", [step!, b.constant(s(scale))]);
    return b.emit("Mul", [b.emit("Cast", [sum], { to: 1 }), scales]);
  };

const product =
  (weight: Tensor): Forward =>
  (b, [x]) =>
    b.emit("MatMul", [x!, b.constant(weight)]);

describe("MatMulInteger", () => {
  test("through a dynamic quantiser, a zero point per column", () => {
    const [weight, zero] = [signed([6, 4]), signed([4])];
    return same(layer(weight, zero, 0.02), product(real(weight, [0.02], numbers(zero))), [floats([2, 3, 6])]);
  });

  test("a bias in int32, an axis moved, a Relu of sums", () => {
    const weight = bytes([6, 4]);
    const inputs = [floats([3, 6])];
    const bias = tensorOf("int32", [4], [-30000, 40000, 5, -70]);
    const levels: Forward = (b, [x]) => {
      const scale = b.constant(s(0.05));
      const level = quantise(b, x!, scale, b.constant(zeroPoint("int8", 4)));
      const moved = b.emit("Transpose", [b.emit("Transpose", [level], { perm: [1, 0] })], { perm: [1, 0] });
      const held = [
        b.constant(weight),
        b.constant(zeroPoint("int8", 4)),
        b.constant(zeroPoint("uint8", 128)),
      ];
      const sum = b.emit("Add", [b.emit("MatMulInteger", [moved, ...held]), b.constant(bias)]);
      const open = b.emit("Max", [sum, b.constant(tensorOf("int32", [], [0]))]);
      return b.emit("Mul", [b.emit("Cast", [open], { to: 1 }), b.constant(s(0.05 * 0.01))]);
    };
    const plain: Forward = (b, [x]) => {
      const held = b.constant(real(weight, [0.01], [128]));
      const sum = b.emit("Add", [b.emit("MatMul", [x!, held]), b.constant(real(bias, [0.05 * 0.01]))]);
      return b.emit("Relu", [sum]);
    };
    return same(levels, plain, inputs);
  });

  test("both operands computed: each gradient reads the other's levels", async () => {
    // Whole numbers with scale 1 are their own levels, so the float product is the same.
    const whole = (shape: readonly number[]) =>
      tensorOf("float32", shape, draw(size(shape), [-9, 9]).map(Math.round));
    const levels: Forward = (b, names) => {
      const [scale, zero] = [b.constant(s(1)), b.constant(zeroPoint("int8", -7))];
      const both = names.map((name) => quantise(b, name, scale, zero));
      return b.emit("Cast", [b.emit("MatMulInteger", [...both, zero, zero])], { to: 1 });
    };
    const plain: Forward = (b, names) => b.emit("MatMul", names);
    await same(levels, plain, [whole([2, 3, 5]), whole([2, 5, 4])]);
  });
});

test("ConvInteger", () => {
  const attributes = { pads: [1, 0, 0, 1], strides: [2, 1], group: 2 };
  const weight = signed([4, 2, 3, 2]);
  const levels: Forward = (b, [x]) => {
    const [level, scale, zero] = b.emitMany("DynamicQuantizeLinear", [x!], { outputs: 3 });
    const sum = b.emit("ConvInteger", [level!, b.constant(weight), zero!], attributes);
    return b.emit("Mul", [b.emit("Cast", [sum], { to: 1 }), b.emit("Mul", [scale!, b.constant(s(0.01))])]);
  };
  const plain: Forward = (b, [x]) => b.emit("Conv", [x!, b.constant(real(weight, [0.01]))], attributes);
  return same(levels, plain, [floats([2, 4, 5, 4])]);
});

describe("models of quantised operators alone", () => {
  const weight = signed([6, 4]);
  const scales = [0.01, 0.02, 0.03, 0.015];
  const end = (b: Builder, y: string) =>
    dequantise(b, y, b.constant(s(0.25)), b.constant(zeroPoint("uint8", 120)));

  test("QLinearMatMul", () => {
    const levels: Forward = (b, [x]) => {
      const a = [b.constant(s(0.05)), b.constant(zeroPoint("uint8", 128))];
      const held = [
        b.constant(weight),
        b.constant(tensorOf("float32", [4], scales)),
        b.constant(tensorOf("int8", [4], [0, 0, 0, 0])),
      ];
      const y = [b.constant(s(0.25)), b.constant(zeroPoint("uint8", 120))];
      return end(b, b.emit("QLinearMatMul", [quantise(b, x!, a[0]!, a[1]!), ...a, ...held, ...y]));
    };
    return same(levels, product(real(weight, scales)), [floats([3, 6])]);
  });

  test("QLinearConv with a bias, then MaxPool and QLinearGlobalAveragePool on levels", () => {
    const kernel = signed([3, 2, 1, 1]);
    const levels: Forward = (b, [x]) => {
      const a = [b.constant(s(0.05)), b.constant(zeroPoint("uint8", 128))];
      const held = [b.constant(kernel), b.constant(s(0.01)), b.constant(zeroPoint("int8", 0))];
      const y = [b.constant(s(0.02)), b.constant(zeroPoint("uint8", 128))];
      const bias = b.constant(tensorOf("int32", [3], [30, -60, 100]));
      const image = b.emit("QLinearConv", [quantise(b, x!, a[0]!, a[1]!), ...a, ...held, ...y, bias]);
      const pooled = b.emit("MaxPool", [image], { kernel_shape: [2, 2], strides: [2, 2] });
      const mean = b.emit("com.microsoft::QLinearGlobalAveragePool", [pooled, ...y, ...y]);
      return dequantise(b, mean, y[0]!, y[1]!);
    };
    const plain: Forward = (b, [x]) => {
      const bias = b.constant(tensorOf("float32", [3], [0.015, -0.03, 0.05]));
      const image = b.emit("Conv", [x!, b.constant(real(kernel, [0.01])), bias]);
      return b.emit("GlobalAveragePool", [
        b.emit("MaxPool", [image], { kernel_shape: [2, 2], strides: [2, 2] }),
      ]);
    };
    // Values far enough apart that quantising moves no maximum.
    const order = Array.from({ length: 32 }, (_, i) => (((i * 11) % 32) - 16) * 0.1);
    return same(levels, plain, [tensorOf("float32", [1, 2, 4, 4], order)]);
  });

  test("QLinearAdd and QLinearSigmoid", () => {
    // Steps of 2⁻⁶, which the values are: nothing is rounded but the Sigmoid's result.
    const grid = (shape: readonly number[]) =>
      tensorOf(
        "float32",
        shape,
        draw(size(shape), [-31, 31]).map((v) => Math.round(v) / 64),
      );
    const levels: Forward = (b, names) => {
      const a = [b.constant(s(1 / 64)), b.constant(zeroPoint("uint8", 128))];
      const wide = [b.constant(s(1 / 64)), b.constant(zeroPoint("uint8", 128))];
      const [x, y] = names.map((name) => quantise(b, name, a[0]!, a[1]!));
      const sum = b.emit("com.microsoft::QLinearAdd", [x!, ...a, y!, ...a, ...wide]);
      const open = [b.constant(s(1 / 256)), b.constant(zeroPoint("uint8", 0))];
      const bent = b.emit("com.microsoft::QLinearSigmoid", [sum, ...wide, ...open]);
      return dequantise(b, bent, open[0]!, open[1]!);
    };
    const plain: Forward = (b, names) => b.emit("Sigmoid", [b.emit("Add", names)]);
    return same(levels, plain, [grid([3, 4]), grid([4])]);
  });

  test("QLinearMul, QLinearLeakyRelu and QLinearConcat", () => {
    // Sixteenths are levels of the operands. Results round, which gradients do not see as long as no
    // product comes near the bend at 0.
    const grid = (shape: readonly number[]) =>
      tensorOf(
        "float32",
        shape,
        draw(size(shape), [-16, 16]).map((v) => (Math.round(v) + (v < 0 ? -16 : 16)) / 16),
      );
    const levels: Forward = (b, names) => {
      const a = [b.constant(s(1 / 16)), b.constant(zeroPoint("uint8", 128))];
      const wide = [b.constant(s(0.1)), b.constant(zeroPoint("uint8", 120))];
      const [x, y] = names.map((name) => b.emit("com.microsoft::QuantizeLinear", [name, ...a]));
      const both = b.emit("com.microsoft::QLinearMul", [x!, ...a, y!, ...a, ...wide]);
      const bent = b.emit("com.microsoft::QLinearLeakyRelu", [both, ...wide, ...wide], {
        alpha: { float: 0.25 },
      });
      const joined = b.emit("com.microsoft::QLinearConcat", [...wide, bent, ...wide, x!, ...a], { axis: 1 });
      return b.emit("com.microsoft::DequantizeLinear", [joined, ...wide]);
    };
    const plain: Forward = (b, [x, y]) => {
      const bent = b.emit("LeakyRelu", [b.emit("Mul", [x!, y!])], { alpha: { float: 0.25 } });
      return b.emit("Concat", [bent, x!], { axis: 1 });
    };
    return same(levels, plain, [grid([3, 4]), grid([1, 4])]);
  });

  for (const form of ["levels", "float"] as const)
    test(`QGemm to ${form}, both operands turned, with a bias`, () => {
      const turned = signed([4, 6]);
      const bias = tensorOf("int32", [4], [100, -3000, 7, 500]);
      const levels: Forward = (b, [x]) => {
        const a = [b.constant(s(0.05)), b.constant(zeroPoint("uint8", 128))];
        const held = [b.constant(turned), b.constant(s(0.01)), b.constant(zeroPoint("int8", 0))];
        const y = form === "levels" ? [b.constant(s(0.25)), b.constant(zeroPoint("uint8", 120))] : [];
        const operands = [quantise(b, x!, a[0]!, a[1]!), ...a, ...held, b.constant(bias), ...y];
        const attributes = { transA: 1, transB: 1, alpha: { float: 0.5 } };
        const made = b.emit("com.microsoft::QGemm", operands, attributes);
        return form === "levels" ? end(b, made) : made;
      };
      const plain: Forward = (b, [x]) => {
        const held = b.constant(real(turned, [0.005]));
        return b.emit("Gemm", [x!, held], { transA: 1, transB: 1 });
      };
      return same(levels, plain, [floats([6, 3])]);
    });

  test("com.microsoft MatMulIntegerToFloat", () => {
    const levels: Forward = (b, [x]) => {
      const [level, scale, zero] = b.emitMany("DynamicQuantizeLinear", [x!], { outputs: 3 });
      const held = [b.constant(weight), scale!, b.constant(tensorOf("float32", [4], scales)), zero!];
      const bias = b.constant(floats([4]));
      return b.emit("com.microsoft::MatMulIntegerToFloat", [level!, ...held, "", bias]);
    };
    return same(levels, product(real(weight, scales)), [floats([3, 6])]);
  });

  test("com.microsoft DynamicQuantizeMatMul", () => {
    const levels: Forward = (b, [x]) => {
      const held = [b.constant(weight), b.constant(tensorOf("float32", [4], scales))];
      return b.emit("com.microsoft::DynamicQuantizeMatMul", [x!, ...held]);
    };
    return same(levels, product(real(weight, scales)), [floats([3, 6])]);
  });

  test("com.microsoft MatMulNBits", () => {
    const packed = bytes([4, 1, 8]);
    const codes = numbers(packed).flatMap((byte) => [(byte & 15) - 8, (byte >> 4) - 8]);
    const rows = tensorOf(
      "float32",
      [16, 4],
      Array.from({ length: 64 }, (_, i) => codes[(i % 4) * 16 + Math.floor(i / 4)]! * scales[i % 4]!),
    );
    const levels: Forward = (b, [x]) => {
      const held = [b.constant(packed), b.constant(tensorOf("float32", [4, 1], scales))];
      return b.emit("com.microsoft::MatMulNBits", [x!, ...held], { K: 16, N: 4, bits: 4, block_size: 16 });
    };
    return same(levels, product(rows), [floats([3, 16])]);
  });
});

describe("what stands for no real number has no gradient", () => {
  test("a float truncated to an integer", async () => {
    const b = builderOn(undefined, 17);
    const x = b.input({ name: "x", dtype: "float32", shape: [3] });
    const whole = b.emit("Cast", [b.emit("Cast", [x], { to: 6 })], { to: 1 });
    b.output(b.emit("ReduceSum", [whole], { axes: [0], keepdims: 0 }), "loss");
    const derived = differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
    const program = await ENGINES[0]!.load(derived);
    const results = await program.step(new Map([["x", floats([3])]]));
    await program.dispose();
    expect(numbers(results.get("grad.x")!)).toEqual([0, 0, 0]);
  });
});
