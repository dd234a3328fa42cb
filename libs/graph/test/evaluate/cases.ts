import fc from "fast-check";
import type { DType } from "../../src/ir.ts";
import { int64, tensorOf } from "../../src/tensor.ts";
import { type Attributes, broadcastPair, node, numeric, type OneNode, shapes, tensor } from "../arbitrary.ts";

/** How one operator is drawn, and in which operator set. */
export type Case = {
  readonly arbitrary: fc.Arbitrary<OneNode>;
  readonly opset?: number;
  readonly absolute?: number;
};

type Range = { min: number; max: number };

function unary(op: string, range: Range, attributes: Attributes = {}): Case {
  const arbitrary = shapes({ min: 0, max: 4 })
    .chain((shape) => tensor({ dtype: "float32", shape }, range))
    .map((x) => ({ node: node(op, 1, { attributes }), feeds: [x] }));
  return { arbitrary };
}

function binary(op: string, dtypes: fc.Arbitrary<DType>, divisor: Range = { min: -8, max: 8 }): Case {
  const arbitrary = fc
    .tuple(broadcastPair, dtypes)
    .chain(([[a, b], dtype]) => fc.tuple(tensor({ dtype, shape: a }), tensor({ dtype, shape: b }, divisor)))
    .map((feeds) => ({ node: node(op, 2), feeds }));
  return { arbitrary };
}

const bool = fc.constant<DType>("bool");
const float = fc.constant<DType>("float32");
const whole = fc.constantFrom<DType[]>("int64", "int32");

/** An axis of a shape, from either end. */
function axisOf(rank: number): fc.Arbitrary<number> {
  return fc.integer({ min: -rank, max: rank - 1 });
}

function reduction(op: string, opset: number, dtypes: fc.Arbitrary<DType>): Case {
  const asInput = opset >= (op === "ReduceSum" ? 13 : 18);
  const arbitrary = fc
    .tuple(shapes({ min: 1, max: op === "ReduceProd" ? 2 : 4 }), dtypes, fc.boolean())
    .chain(([shape, dtype, keep]) => {
      const all = shape.map((_, axis) => axis);
      const range = op === "ReduceProd" || op.includes("Log") ? { min: 1, max: 3 } : { min: -8, max: 8 };
      return fc.tuple(
        tensor({ dtype, shape }, range),
        fc.subarray(all, { minLength: 1 }),
        fc.constant(keep ? 1 : 0),
      );
    })
    .map(([x, axes, keepdims]) => {
      // Half of the axes are named from the end.
      const named = axes.map((axis) => (axis % 2 ? axis - x.shape.length : axis));
      return asInput
        ? { node: node(op, 2, { attributes: { keepdims } }), feeds: [x, int64(named)] }
        : { node: node(op, 1, { attributes: { keepdims, axes: named } }), feeds: [x] };
    });
  return { arbitrary, opset, absolute: 1e-4 };
}

const matmul: Case = {
  arbitrary: fc
    .tuple(
      broadcastPair,
      fc.tuple(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 5 }),
      ),
      fc.boolean(),
      fc.boolean(),
    )
    .chain(([[a, b], [m, k, n], vectorA, vectorB]) => {
      const left = vectorA ? [k] : [...a.slice(-2), m, k];
      const right = vectorB ? [k] : [...b.slice(-2), k, n];
      return fc.tuple(tensor({ dtype: "float32", shape: left }), tensor({ dtype: "float32", shape: right }));
    })
    .map((feeds) => ({ node: node("MatMul", 2), feeds })),
  absolute: 1e-3,
};

const gemm: Case = {
  arbitrary: fc
    .tuple(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 5 }),
      fc.nat(1),
      fc.nat(1),
      fc.nat(4),
    )
    .chain(([m, k, n, transA, transB, kind]) => {
      const c = [undefined, [n], [1, n], [m, 1], [m, n]][kind];
      const parts = [transA ? [k, m] : [m, k], transB ? [n, k] : [k, n], ...(c ? [c] : [])];
      const attributes = { transA, transB, alpha: { float: 0.5 }, beta: { float: 2 } };
      return fc
        .tuple(...parts.map((shape) => tensor({ dtype: "float32", shape })))
        .map((feeds) => ({ node: node("Gemm", parts.length, { attributes }), feeds }));
    }),
  absolute: 1e-3,
};

const conv: Case = {
  arbitrary: fc
    .record({
      spatial: fc.array(fc.integer({ min: 5, max: 7 }), { minLength: 1, maxLength: 2 }),
      group: fc.integer({ min: 1, max: 2 }),
      depth: fc.integer({ min: 1, max: 2 }),
      perGroup: fc.integer({ min: 1, max: 2 }),
      kernel: fc.integer({ min: 1, max: 3 }),
      stride: fc.integer({ min: 1, max: 2 }),
      dilation: fc.integer({ min: 1, max: 2 }),
      pads: fc.tuple(fc.nat(2), fc.nat(2)),
      same: fc.boolean(),
      bias: fc.boolean(),
    })
    .chain((draw) => {
      const { spatial, group, depth, perGroup, kernel, stride, dilation, pads, same, bias } = draw;
      const each = (value: number) => spatial.map(() => value);
      const padding = { pads: [...each(pads[0]), ...each(pads[1])] };
      // onnxruntime allows auto_pad only without dilation.
      const edge = same && dilation === 1 ? { auto_pad: "SAME_UPPER" } : padding;
      const attributes = { group, strides: each(stride), dilations: each(dilation), ...edge };
      const parts = [
        [2, group * depth, ...spatial],
        [group * perGroup, depth, ...each(kernel)],
      ];
      if (bias) parts.push([group * perGroup]);
      return fc
        .tuple(...parts.map((shape) => tensor({ dtype: "float32", shape }, { min: -2, max: 2 })))
        .map((feeds) => ({ node: node("Conv", parts.length, { attributes }), feeds }));
    }),
  absolute: 1e-3,
};

function pool(op: string, extra: Attributes): Case {
  const arbitrary = fc
    .record({
      spatial: fc.array(fc.integer({ min: 4, max: 7 }), { minLength: 1, maxLength: 2 }),
      kernel: fc.integer({ min: 2, max: 3 }),
      stride: fc.integer({ min: 1, max: 3 }),
      pad: fc.tuple(fc.nat(1), fc.nat(1)),
      ceil: fc.nat(1),
    })
    .chain(({ spatial, kernel, stride, pad, ceil }) => {
      const each = (value: number) => spatial.map(() => value);
      const attributes = {
        kernel_shape: each(kernel),
        strides: each(stride),
        pads: [...each(pad[0]), ...each(pad[1])],
        ceil_mode: ceil,
        ...extra,
      };
      const shape = [2, 3, ...spatial];
      return tensor({ dtype: "float32", shape }).map((x) => ({
        node: node(op, 1, { attributes }),
        feeds: [x],
      }));
    });
  return { arbitrary, opset: 19 };
}

const slice: Case = {
  arbitrary: shapes({ min: 1, max: 4 }).chain((shape) => {
    const bound = fc.oneof(fc.integer({ min: -6, max: 6 }), fc.constantFrom(2n ** 63n - 1n, -(2n ** 63n)));
    const cut = fc.tuple(bound, bound, fc.constantFrom(1, 2, -1, -2));
    const all = shape.map((_, axis) => axis);
    return fc
      .tuple(
        tensor({ dtype: "int64", shape }),
        fc.subarray(all, { minLength: 1 }),
        fc.tuple(...all.map(() => cut)),
      )
      .map(([x, axes, cuts]) => {
        const part = (k: 0 | 1 | 2) => int64(axes.map((axis) => cuts[axis]![k]));
        return { node: node("Slice", 5), feeds: [x, part(0), part(1), int64(axes), part(2)] };
      });
  }),
};

const gather: Case = {
  arbitrary: fc.tuple(shapes({ min: 1, max: 3 }), shapes({ min: 0, max: 2 })).chain(([shape, picks]) =>
    axisOf(shape.length).chain((axis) => {
      const size = shape.at(axis)!;
      return fc
        .tuple(
          tensor({ dtype: "float32", shape }),
          tensor({ dtype: "int64", shape: picks }, { min: -size, max: size - 1 }),
        )
        .map((feeds) => ({ node: node("Gather", 2, { attributes: { axis } }), feeds }));
    }),
  ),
};

const gatherElements: Case = {
  arbitrary: shapes({ min: 1, max: 3 }).chain((shape) =>
    fc.nat(shape.length - 1).chain((axis) => {
      const size = shape[axis]!;
      const index = { dtype: "int64" as const, shape: shape.with(axis, 3) };
      return fc
        .tuple(tensor({ dtype: "float32", shape }), tensor(index, { min: -size, max: size - 1 }))
        .map((feeds) => ({ node: node("GatherElements", 2, { attributes: { axis } }), feeds }));
    }),
  ),
};

const gatherND: Case = {
  arbitrary: fc.tuple(shapes({ min: 2, max: 4 }), fc.nat(1), fc.nat(2)).chain(([shape, batch, more]) => {
    const depth = Math.min(1 + more, shape.length - batch);
    const picked = shape.slice(batch, batch + depth);
    const least = Math.min(...picked);
    const index = { dtype: "int64" as const, shape: [...shape.slice(0, batch), 3, depth] };
    return fc
      .tuple(tensor({ dtype: "float32", shape }), tensor(index, { min: -least, max: least - 1 }))
      .map((feeds) => ({ node: node("GatherND", 2, { attributes: { batch_dims: batch } }), feeds }));
  }),
};

const scatterND: Case = {
  arbitrary: fc
    .tuple(shapes({ min: 1, max: 3 }), fc.constantFrom("none", "add", "mul"), numeric())
    .chain(([shape, reduction, dtype]) => {
      // Distinct rows: with reduction none the standard leaves the order of duplicates open.
      const rows = fc.subarray(
        Array.from({ length: shape[0]! }, (_, i) => i),
        { minLength: 1 },
      );
      return rows.chain((picked) =>
        fc
          .tuple(tensor({ dtype, shape }), tensor({ dtype, shape: [picked.length, ...shape.slice(1)] }))
          .map(([x, updates]) => ({
            node: node("ScatterND", 3, { attributes: { reduction } }),
            feeds: [x, int64(picked, [picked.length, 1]), updates],
          })),
      );
    }),
};

const concat: Case = {
  arbitrary: fc
    .tuple(
      shapes({ min: 1, max: 4 }),
      fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 4 }),
      numeric(),
    )
    .chain(([shape, sizes, dtype]) =>
      axisOf(shape.length).chain((axis) => {
        const parts = sizes.map((size) => tensor({ dtype, shape: shape.with(axis, size) }));
        return fc
          .tuple(...parts)
          .map((feeds) => ({ node: node("Concat", sizes.length, { attributes: { axis } }), feeds }));
      }),
    ),
};

const split: Case = {
  arbitrary: fc
    .tuple(shapes({ min: 1, max: 3 }), fc.array(fc.nat(3), { minLength: 2, maxLength: 4 }))
    .chain(([shape, sizes]) =>
      fc.nat(shape.length - 1).chain((axis) => {
        const total = sizes.reduce((a, b) => a + b, 0);
        return tensor({ dtype: "float32", shape: shape.with(axis, total) }).map((x) => ({
          node: node("Split", 2, { attributes: { axis }, outputs: sizes.length }),
          feeds: [x, int64(sizes)],
        }));
      }),
    ),
};

const transpose: Case = {
  arbitrary: shapes({ min: 1, max: 4 }).chain((shape) => {
    const all = shape.map((_, axis) => axis);
    return fc
      .tuple(tensor({ dtype: "float32", shape }), fc.shuffledSubarray(all, { minLength: all.length }))
      .map(([x, perm]) => ({ node: node("Transpose", 1, { attributes: { perm } }), feeds: [x] }));
  }),
};

const reshape: Case = {
  arbitrary: shapes({ min: 1, max: 4 }).chain((shape) =>
    fc.tuple(tensor({ dtype: "int32", shape }), fc.nat(shape.length - 1)).map(([x, free]) => {
      // Reversed sizes with one left open; the first kept by a 0 where it is the same.
      const asked = shape
        .toReversed()
        .map((size, axis) => (axis === free ? -1 : size === shape[axis] ? 0 : size));
      return { node: node("Reshape", 2), feeds: [x, int64(asked)] };
    }),
  ),
};

const expand: Case = {
  arbitrary: broadcastPair.chain(([a, b]) =>
    tensor({ dtype: "float32", shape: a }).map((x) => ({ node: node("Expand", 2), feeds: [x, int64(b)] })),
  ),
};

const where: Case = {
  arbitrary: fc
    .tuple(broadcastPair, numeric())
    .chain(([[a, b], dtype]) =>
      fc
        .tuple(tensor({ dtype: "bool", shape: a }), tensor({ dtype, shape: b }), tensor({ dtype, shape: [] }))
        .map((feeds) => ({ node: node("Where", 3), feeds })),
    ),
};

function axisLike(op: string, attributes: Attributes, dtypes: fc.Arbitrary<DType>): Case {
  const arbitrary = fc
    .tuple(shapes({ min: 1, max: 4 }), dtypes)
    .chain(([shape, dtype]) =>
      fc
        .tuple(tensor({ dtype, shape }), axisOf(shape.length))
        .map(([x, axis]) => ({ node: node(op, 1, { attributes: { axis, ...attributes } }), feeds: [x] })),
    );
  return { arbitrary };
}

const cumsum: Case = {
  arbitrary: fc
    .tuple(shapes({ min: 1, max: 3 }), numeric(), fc.nat(1), fc.nat(1))
    .chain(([shape, dtype, exclusive, reverse]) =>
      fc.tuple(tensor({ dtype, shape }), axisOf(shape.length)).map(([x, axis]) => ({
        node: node("CumSum", 2, { attributes: { exclusive, reverse } }),
        feeds: [x, int64([axis], [])],
      })),
    ),
};

const tile: Case = {
  arbitrary: shapes({ min: 1, max: 3 }).chain((shape) =>
    fc
      .tuple(tensor({ dtype: "float32", shape }), fc.tuple(...shape.map(() => fc.nat(3))))
      .map(([x, repeats]) => ({ node: node("Tile", 2), feeds: [x, int64(repeats)] })),
  ),
};

function pad(mode: string): Case {
  const arbitrary = fc
    .array(fc.integer({ min: 3, max: 5 }), { minLength: 1, maxLength: 3 })
    .chain((shape) =>
      fc
        .tuple(
          tensor({ dtype: "float32", shape }),
          fc.tuple(
            ...[...shape, ...shape].map(() => fc.integer({ min: mode === "constant" ? -1 : 0, max: 2 })),
          ),
        )
        .map(([x, pads]) => ({ node: node("Pad", 2, { attributes: { mode } }), feeds: [x, int64(pads)] })),
    );
  return { arbitrary };
}

const onehot: Case = {
  arbitrary: shapes({ min: 1, max: 3 }).chain((shape) =>
    fc
      .tuple(tensor({ dtype: "int64", shape }, { min: -5, max: 4 }), axisOf(shape.length + 1))
      .map(([x, axis]) => ({
        node: node("OneHot", 3, { attributes: { axis } }),
        feeds: [x, int64([5], []), tensorOf("float32", [2], [-1, 1])],
      })),
  ),
};

const trilu: Case = {
  arbitrary: fc
    .tuple(shapes({ min: 2, max: 3 }), fc.integer({ min: -3, max: 3 }), fc.nat(1))
    .chain(([shape, k, upper]) =>
      tensor({ dtype: "float32", shape }).map((x) => ({
        node: node("Trilu", 2, { attributes: { upper } }),
        feeds: [x, int64([k], [])],
      })),
    ),
};

const range: Case = {
  arbitrary: fc
    .tuple(fc.integer({ min: -5, max: 5 }), fc.integer({ min: -5, max: 5 }), fc.constantFrom(1, 2, -1, -3))
    .map((parts) => ({
      node: node("Range", 3),
      feeds: parts.map((value) => int64([value], [])),
    })),
};

const cast: Case = {
  // Within the smallest type's range, since overflow is undefined; halves are exact here.
  arbitrary: fc
    .tuple(
      fc.constantFrom<DType[]>("float32", "int64", "int32", "bool", "float16"),
      fc.constantFrom(1, 6, 7, 9, 10, 11),
    )
    .chain(([dtype, to]) =>
      tensor({ dtype, shape: [7] }).map((x) => ({
        node: node("Cast", 1, { attributes: { to } }),
        feeds: [x],
      })),
    ),
};

const layerNorm: Case = {
  arbitrary: fc.array(fc.integer({ min: 2, max: 4 }), { minLength: 2, maxLength: 3 }).chain((shape) =>
    fc.integer({ min: 1, max: shape.length - 1 }).chain((axis) => {
      const inner = { dtype: "float32" as const, shape: shape.slice(axis) };
      return fc.tuple(tensor({ dtype: "float32", shape }), tensor(inner), tensor(inner)).map((feeds) => ({
        node: node("LayerNormalization", 3, { attributes: { axis, epsilon: { float: 0.01 } } }),
        feeds,
      }));
    }),
  ),
  absolute: 1e-3,
};

const clip: Case = {
  arbitrary: shapes({ min: 0, max: 3 }).chain((shape) =>
    tensor({ dtype: "float32", shape }).map((x) => ({
      node: node("Clip", 3),
      feeds: [x, tensorOf("float32", [], [-1.5]), tensorOf("float32", [], [2.5])],
    })),
  ),
};

const nonzero: Case = {
  arbitrary: shapes({ min: 1, max: 3 }).chain((shape) =>
    tensor({ dtype: "bool", shape }).map((x) => ({ node: node("NonZero", 1), feeds: [x] })),
  ),
};

const anywhere = { min: -8, max: 8 };
const positive = { min: 0.125, max: 8 };

export const CASES: Readonly<Record<string, Case>> = {
  Add: binary("Add", numeric()),
  Sub: binary("Sub", numeric()),
  Mul: binary("Mul", numeric()),
  "Div (float)": binary("Div", float, positive),
  "Div (integer)": binary("Div", whole, { min: 1, max: 5 }),
  "Mod (integer)": binary("Mod", whole, { min: -5, max: -1 }),
  Pow: binary("Pow", float, { min: 2, max: 2 }),
  Min: binary("Min", numeric()),
  Max: binary("Max", numeric()),
  Equal: binary("Equal", numeric(), { min: -1, max: 1 }),
  Less: binary("Less", numeric()),
  LessOrEqual: binary("LessOrEqual", numeric()),
  Greater: binary("Greater", numeric()),
  GreaterOrEqual: binary("GreaterOrEqual", numeric()),
  And: binary("And", bool),
  Or: binary("Or", bool),
  Xor: binary("Xor", bool),
  ...Object.fromEntries(
    ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Neg"]
      .concat("Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh", "IsNaN")
      .concat("Elu", "Shape", "Size")
      .map((op) => [op, unary(op, anywhere)]),
  ),
  Log: unary("Log", positive),
  Sqrt: unary("Sqrt", positive),
  Reciprocal: unary("Reciprocal", positive),
  "Gelu (exact)": { ...unary("Gelu", anywhere), opset: 20 },
  "Gelu (tanh)": { ...unary("Gelu", anywhere, { approximate: "tanh" }), opset: 20 },
  "ReduceSum 11": reduction("ReduceSum", 11, numeric()),
  "ReduceSum 13": reduction("ReduceSum", 13, numeric()),
  "ReduceMean 17": reduction("ReduceMean", 17, float),
  "ReduceMean 18": reduction("ReduceMean", 18, float),
  "ReduceMax 18": reduction("ReduceMax", 18, numeric()),
  "ReduceMin 18": reduction("ReduceMin", 18, numeric()),
  "ReduceProd 17": reduction("ReduceProd", 17, numeric()),
  "ReduceL1 17": reduction("ReduceL1", 17, float),
  "ReduceL2 17": reduction("ReduceL2", 17, float),
  "ReduceSumSquare 17": reduction("ReduceSumSquare", 17, float),
  "ReduceLogSum 17": reduction("ReduceLogSum", 17, float),
  "ReduceLogSumExp 17": reduction("ReduceLogSumExp", 17, float),
  ArgMax: axisLike("ArgMax", { keepdims: 0 }, numeric()),
  ArgMin: axisLike("ArgMin", { keepdims: 1 }, numeric()),
  Softmax: axisLike("Softmax", {}, float),
  LogSoftmax: axisLike("LogSoftmax", {}, float),
  "Softmax 11": { ...axisLike("Softmax", {}, float), opset: 11 },
  Flatten: axisLike("Flatten", {}, numeric()),
  MatMul: matmul,
  Gemm: gemm,
  Conv: conv,
  MaxPool: pool("MaxPool", {}),
  AveragePool: pool("AveragePool", { count_include_pad: 0 }),
  "AveragePool (padding counts)": pool("AveragePool", { count_include_pad: 1 }),
  Slice: slice,
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  ScatterND: scatterND,
  Concat: concat,
  Split: split,
  Transpose: transpose,
  Reshape: reshape,
  Expand: expand,
  Where: where,
  CumSum: cumsum,
  Tile: tile,
  "Pad (constant)": pad("constant"),
  "Pad (reflect)": pad("reflect"),
  "Pad (edge)": pad("edge"),
  OneHot: onehot,
  Trilu: trilu,
  Range: range,
  Cast: cast,
  LayerNormalization: layerNorm,
  Clip: clip,
  NonZero: nonzero,
};
