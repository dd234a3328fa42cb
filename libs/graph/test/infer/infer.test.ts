import { Fault } from "@tutti/foundation/fault";
import { describe, expect, test } from "vitest";
import { inferNode } from "../../src/infer/infer.ts";
import type { DType, Node, Static, Tensor } from "../../src/ir.ts";
import { describe as named } from "../../src/site.ts";
import { int64, tensorOf } from "../../src/tensor.ts";
import { type Attributes, node } from "../arbitrary.ts";

type Input = readonly number[] | Static | Tensor;

/** Infers a node over inputs given as shapes (float32), statics or constants. */
function infer(
  op: string,
  inputs: readonly Input[],
  attributes: Attributes = {},
  opset = 17,
): readonly Static[] {
  const made: Node = { ...node(op, inputs.length, { attributes }), name: "n" };
  const statics = inputs.map(
    (input): Static => ("dtype" in input ? input : { dtype: "float32", shape: input }),
  );
  const at = (name: string) => made.inputs.indexOf(name);
  return inferNode(made, {
    opset,
    static: (name) => statics[at(name)]!,
    constant: (name) => {
      const input = inputs[at(name)]!;
      return "data" in input ? input : undefined;
    },
  });
}

const of = (dtype: DType, shape: readonly number[]): Static => ({ dtype, shape });

describe("Faults name operator, node, operator set and the part that is wrong", () => {
  const cases: readonly [string, () => unknown, string][] = [
    [
      "broadcast",
      () => infer("Add", [[2, 3], [4]]),
      'Add "n" (opset 17): shapes: expected shapes that broadcast, got [2,3] and [4]',
    ],
    [
      "dtype",
      () => infer("Mul", [[2], of("int64", [2])]),
      'Mul "n" (opset 17): input 1: expected float32, got int64',
    ],
    [
      "inner size",
      () =>
        infer("MatMul", [
          [2, 3],
          [4, 5],
        ]),
      'MatMul "n" (opset 17): rows of input 1: expected 3, got 4',
    ],
    [
      "rank",
      () =>
        infer("Gemm", [
          [2, 3, 1],
          [3, 4],
        ]),
      'Gemm "n" (opset 17): rank of input 0: expected 2, got 3',
    ],
    [
      "bias",
      () => infer("Gemm", [[2, 3], [3, 4], [5]]),
      'Gemm "n" (opset 17): shapes: expected shapes that broadcast, got [2,4] and [5]',
    ],
    [
      "axis",
      () => infer("Softmax", [[2, 3]], { axis: 5 }),
      'Softmax "n" (opset 17): axis: expected one of -2..1, got 5',
    ],
    [
      "axis",
      () => infer("Gather", [[2, 3], of("int64", [1])], { axis: 5 }),
      'Gather "n" (opset 17): axis: expected one of -2..1, got 5',
    ],
    [
      "attribute",
      () => infer("Concat", [[2], [3]]),
      'Concat "n" (opset 17): attribute axis: expected int, got nothing',
    ],
    [
      "kind",
      () => infer("Concat", [[2], [3]], { axis: "one" }),
      'Concat "n" (opset 17): attribute axis: expected int, got string',
    ],
    [
      "permutation",
      () => infer("Transpose", [[2, 3]], { perm: [0, 0] }),
      'Transpose "n" (opset 17): attribute perm: expected an order of 2 axes, got [0,0]',
    ],
    [
      "reshape",
      () => infer("Reshape", [[2, 3], int64([4, -1])]),
      'Reshape "n" (opset 17): shape: expected 6 elements of [2,3], got [4,-1]',
    ],
    [
      "two open sizes",
      () => infer("Reshape", [[2, 3], int64([-1, -1])]),
      'Reshape "n" (opset 17): shape: expected 6 elements of [2,3], got [-1,-1]',
    ],
    [
      "computed shape",
      () => infer("Reshape", [[2, 3], of("int64", [2])]),
      'Reshape "n" (opset 17): input 1 (x1): expected a value known before the run, ' +
        "got one computed from the graph's inputs",
    ],
    [
      "channels",
      () =>
        infer("Conv", [
          [1, 3, 5, 5],
          [8, 4, 3, 3],
        ]),
      'Conv "n" (opset 17): input channels: expected 4, got 3',
    ],
    [
      "kernel",
      () =>
        infer("Conv", [
          [1, 1, 2, 2],
          [1, 1, 3, 3],
        ]),
      'Conv "n" (opset 17): kernel: expected one that fits the padded input',
    ],
    [
      "kernel_shape that is not the weight's",
      () =>
        infer(
          "Conv",
          [
            [1, 1, 5, 5],
            [1, 1, 3, 3],
          ],
          { kernel_shape: [3, 2] },
        ),
      'Conv "n" (opset 17): attribute kernel_shape: expected [3,3], got [3,2]',
    ],
    [
      "num_outputs that is not the node's",
      () => infer("Split", [[6]], { num_outputs: 2 }),
      'Split "n" (opset 17): num_outputs: expected 1, got 2',
    ],
    [
      "precision that is not the scale's",
      () => infer("QuantizeLinear", [[2], []], { precision: 10 }),
      'QuantizeLinear "n" (opset 17): attribute precision: expected the scale\'s, float32, got float16',
    ],
    [
      "squeeze of no axes",
      () => infer("Squeeze", [[2, 1], int64([])]),
      'Squeeze "n" (opset 17): input 1: expected one axis or more, or no input, got no axes',
    ],
    [
      "squeeze",
      () => infer("Squeeze", [[2, 1], int64([0])]),
      'Squeeze "n" (opset 17): size of axis 0: expected 1, got 2',
    ],
    ...["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"].map((op): [string, () => unknown, string] => [
      `${op} of no cells`,
      () => infer(op, [[2, 3, 1, 0]]),
      `${op} "n" (opset 17): image: expected one cell or more, got [1,0]`,
    ]),
    [
      "split",
      () => infer("Split", [[5], int64([3])]),
      'Split "n" (opset 17): sum of split sizes: expected 5, got 3',
    ],
    [
      "updates",
      () => infer("ScatterND", [[4, 2], int64([0], [1, 1]), [1, 3]]),
      'ScatterND "n" (opset 17): updates: expected [1,2], got [1,3]',
    ],
    [
      "step",
      () => infer("Slice", [[4], int64([0]), int64([4]), int64([0]), int64([0])]),
      'Slice "n" (opset 17): steps: expected not 0, got 0',
    ],
    [
      "endless range",
      () => infer("Range", [int64([0], []), int64([9], []), int64([0], [])]),
      'Range "n" (opset 17): shape: expected sizes ≥ 0 and at most 2147483647 elements, got [Infinity]',
    ],
    [
      "training",
      () => infer("BatchNormalization", [[1, 2], [2], [2], [2], [2]], { training_mode: 1 }),
      'BatchNormalization "n" (opset 17): attribute training_mode: expected 0, got 1',
    ],
    ["unknown", () => infer("Sequence", [[1]]), 'Sequence "n" (opset 17): expected an operator Tutti knows'],
  ];
  test.each(cases)("%s", (_, run, message) => {
    let got = "no fault";
    try {
      run();
    } catch (error) {
      expect(error).toBeInstanceOf(Fault);
      got = (error as Fault).message;
    }
    expect(got).toBe(message);
  });
});

describe("QLinearConcat, each part with its scale and zero point", () => {
  const given = [
    of("float32", []),
    of("uint8", []),
    of("uint8", [2, 3]),
    of("float32", []),
    of("uint8", [1]),
  ];
  function joined(inputs: readonly (Static | undefined)[]) {
    const made = { ...node("QLinearConcat", inputs.length, { attributes: { axis: 1 } }), name: "n" };
    const names = made.inputs.map((name, i) => (inputs[i] ? name : ""));
    return inferNode(
      { ...made, domain: "com.microsoft", inputs: names },
      { opset: 17, static: (name) => inputs[Number(name.slice(1))]!, constant: () => undefined },
    );
  }

  test("is joined", () => {
    expect(joined(given)).toEqual([of("uint8", [2, 3])]);
    expect(joined([...given, ...given.slice(2)])).toEqual([of("uint8", [2, 6])]);
  });
  test.each([
    ["no scale", given.with(3, undefined as never), "input 3: expected a value, got nothing"],
    ["no zero point", given.slice(0, 4), "inputs: expected 2, and 3 per part, got 4"],
    ["two scales", given.with(3, of("float32", [2])), "input 3: expected one value, got [2]"],
    ["a zero point of another type", given.with(4, of("int8", [])), "input 4: expected uint8, got int8"],
    [
      "another size",
      [...given, of("uint8", [3, 3]), ...given.slice(3)],
      "input 5: expected [2,3] but on axis 1",
    ],
  ])("%s is refused", (_, inputs, message) => {
    expect(() => joined(inputs)).toThrow(message);
  });
});

describe("what operator sets change", () => {
  test("axes as attribute and as input", () => {
    expect(infer("ReduceSum", [[2, 3]], { axes: [1] }, 11)).toEqual([of("float32", [2, 1])]);
    expect(infer("ReduceSum", [[2, 3], int64([1])], { keepdims: 0 }, 13)).toEqual([of("float32", [2])]);
    expect(infer("ReduceSum", [[2, 3]], { noop_with_empty_axes: 1 }, 13)).toEqual([of("float32", [2, 3])]);
    expect(infer("ReduceMean", [[2, 3]], { keepdims: 0 }, 17)).toEqual([of("float32", [])]);
  });

  test("Slice from attributes (version 1) and with INT64_MAX (version 10)", () => {
    expect(infer("Slice", [[4, 5]], { starts: [1], ends: [9], axes: [1] }, 9)).toEqual([
      of("float32", [4, 4]),
    ]);
    const end = int64([2n ** 63n - 1n]);
    expect(infer("Slice", [[4, 5], int64([2]), end, int64([-1])])).toEqual([of("float32", [4, 3])]);
  });

  test("Dropout's mask was a float once", () => {
    expect(infer("Dropout", [[2]], {}, 7)[1]!.dtype).toBe("float32");
    expect(infer("Dropout", [[2]], {}, 12)[1]!.dtype).toBe("bool");
  });
});

test("empty tensors keep their shapes", () => {
  expect(
    infer("MatMul", [
      [2, 0],
      [0, 3],
    ]),
  ).toEqual([of("float32", [2, 3])]);
  expect(
    infer(
      "Concat",
      [
        [0, 3],
        [2, 3],
      ],
      { axis: 0 },
    ),
  ).toEqual([of("float32", [2, 3])]);
  expect(infer("Reshape", [[0, 3], int64([3, 0])], { allowzero: 1 })).toEqual([of("float32", [3, 0])]);
});

test("a node is told of by name, else by what it makes, with its domain", () => {
  const unnamed = { ...node("Gelu", 1), name: "", domain: "com.microsoft" };
  expect(named(unnamed, 17)).toBe('com.microsoft.Gelu "y0" (opset 17)');
  expect(tensorOf("bool", [2], [0, 7]).data).toEqual(Uint8Array.of(0, 1));
});
