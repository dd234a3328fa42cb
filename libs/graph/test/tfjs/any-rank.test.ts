import { describe, test } from "vitest";
import { sizeOf, type Tensor } from "../../src/ir.ts";
import { type AttributeInit, agrees, f32 } from "./harness.ts";

const wave = (shape: readonly number[], phase = 0): Tensor =>
  f32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i * 1.7 + phase)),
  );

/** One axis more than wasm's arithmetic knows. */
const DEEP = [2, 3, 2, 1, 2, 2, 2];
const x = wave(DEEP);
const channels = [3, 1, 1, 1, 1, 1];

type One = { op: string; inputs?: Tensor[]; attributes?: Record<string, AttributeInit> };
const CASES: One[] = [
  { op: "Gelu" },
  { op: "HardSwish" },
  { op: "Softsign" },
  { op: "Elu", attributes: { alpha: { float: 0.5 } } },
  { op: "Div", inputs: [wave([1, 3, 1, 1, 2, 1, 2]), x] },
  { op: "Mean", inputs: [x, wave([2, 1, 2]), x] },
  { op: "PRelu", inputs: [x, wave(channels, 1)] },
  { op: "Max", inputs: [x, wave([2], 1)] },
  { op: "Softmax", attributes: { axis: 1 } },
  { op: "LogSoftmax", attributes: { axis: 1 } },
  { op: "LogSoftmax", attributes: { axis: -1 } },
  { op: "ReduceLogSumExp", attributes: { axes: [1, 4] } },
  { op: "ReduceL2", attributes: { axes: [1, 4] } },
  { op: "LayerNormalization", inputs: [x, wave([2], 1)] },
  { op: "InstanceNormalization", inputs: [x, wave([3], 1), wave([3], 2)] },
  {
    op: "BatchNormalization",
    inputs: [x, wave([3], 1), wave([3], 2), wave([3], 3), f32([3], [1, 2, 3])],
  },
];

describe("seven axes", () => {
  test.each(CASES)("$op", ({ op, inputs = [x], attributes = {} }) =>
    agrees({ op, inputs, attributes, opset: op === "Gelu" ? 20 : 17 }),
  );
});
