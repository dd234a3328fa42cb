import fc from "fast-check";
import { type Attributes, broadcastPair, node, tensor } from "../arbitrary.ts";
import type { Case } from "./draw-families.ts";

export const matmul: Case = {
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

export const gemm: Case = {
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

export const conv: Case = {
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

export function pool(op: string, extra: Attributes): Case {
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

export const layerNorm: Case = {
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
