import fc from "fast-check";
import { axisOf, bit, type Draw, type Draws, dims, float, oneOf, size } from "./draw.ts";

const NAMES = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"];

/** Any axes from either end, kept or dropped, in the forms of several operator sets. */
function reduction(range: readonly [number, number] = [-2, 2]): Draw {
  const options = fc.record({
    keepdims: bit,
    opset: oneOf(11, 13, 18),
    all: fc.boolean(),
    negative: fc.boolean(),
    picks: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
  });
  return fc.tuple(dims(1, 3), options).map(([shape, { keepdims, opset, all, negative, picks }]) => {
    const some = shape.flatMap((_, axis) => (picks[axis] ? [negative ? axis - shape.length : axis] : []));
    const attributes = all || some.length === 0 ? { keepdims } : { axes: some, keepdims };
    return { inputs: [{ shape }], attributes, opset, range };
  });
}

/** Factors of which some are 0: the product of the others is then not y over x. */
const withZeros: Draw = fc
  .tuple(dims(2, 2), fc.array(oneOf(0, 0.5, 1.5, -2), { minLength: 9, maxLength: 9 }))
  .map(([shape, values]) => ({
    inputs: [{ shape, values: values.slice(0, shape[0]! * shape[1]!) }],
    attributes: { axes: [1] },
  }));

/** Along one axis; before operator set 13 along it and all that follow. */
const softmax: Draw = dims(1, 3).chain((shape) =>
  fc
    .tuple(axisOf(shape.length), oneOf(8, 11, 13, 18))
    // Negative axes came with 11.
    .filter(([axis, opset]) => axis >= 0 || opset >= 11)
    .map(([axis, opset]) => ({ inputs: [{ shape }], attributes: { axis }, opset })),
);

// Large enough that a mean over one value, which has no deviation, stays a plain number.
const epsilon = oneOf(0.1, 0.01).map(float);

/** With or without a bias; the statistics may be read too. */
const layer: Draw = dims(1, 3).chain((shape) =>
  fc
    .record({ axis: axisOf(shape.length), epsilon, bias: fc.boolean(), outputs: oneOf(1, 1, 3) })
    .map(({ axis, epsilon, bias, outputs }) => {
      const own = shape.slice(axis);
      const inputs = [{ shape }, { shape: own }, ...(bias ? [{ shape: own }] : [])];
      return { inputs, attributes: { axis, epsilon }, outputs };
    }),
);

function rootMeanSquare(opset: number): Draw {
  return dims(1, 3).chain((shape) =>
    fc.tuple(axisOf(shape.length), epsilon).map(([axis, value]) => ({
      inputs: [{ shape }, { shape: shape.slice(axis) }],
      attributes: { axis, epsilon: value },
      opset,
    })),
  );
}

const image = fc.tuple(size, size, dims(1, 2)).map(([batch, channels, space]) => [batch, channels, ...space]);

/**
 * Of two values the normalised ones are ±1 whatever they were, and the gradient is a difference of almost
 * equal numbers, in which float32 engines may differ by more than the limit.
 */
const notPairs = image.filter((shape) => shape.slice(2).reduce((product, size) => product * size, 1) !== 2);

const instance: Draw = fc.tuple(notPairs, epsilon).map(([shape, value]) => ({
  inputs: [{ shape }, { shape: [shape[1]!] }, { shape: [shape[1]!] }],
  attributes: { epsilon: value },
}));

/** Scale and bias per group in 18, per channel since 21. */
const group: Draw = fc
  .tuple(size, oneOf([1, 2], [2, 4], [2, 2], [1, 3]), dims(1, 2), oneOf(18, 21), epsilon)
  .map(([batch, [groups, channels], space, opset, value]) => {
    const own = [opset < 21 ? groups! : channels!];
    return {
      inputs: [{ shape: [batch, channels!, ...space] }, { shape: own }, { shape: own }],
      attributes: { num_groups: groups!, epsilon: value },
      opset,
    };
  });

/** Statistics fixed or computed. */
const batch: Draw = fc.tuple(image, epsilon, fc.boolean()).map(([shape, value, frozen]) => {
  const own = [shape[1]!];
  const statistics = [
    { shape: own, frozen },
    { shape: own, range: [0.5, 1.5] as const, frozen },
  ];
  return {
    inputs: [{ shape }, { shape: own }, { shape: own }, ...statistics],
    attributes: { epsilon: value },
  };
});

export const REDUCE: Draws = {
  ...Object.fromEntries(
    NAMES.map((name) => [`Reduce${name}`, reduction(name === "LogSum" ? [0.5, 2] : [-2, 2])]),
  ),
  ReduceProd: fc.oneof(reduction(), withZeros),
  Softmax: softmax,
  LogSoftmax: softmax,
  Hardmax: softmax,
  LayerNormalization: layer,
  RMSNormalization: rootMeanSquare(23),
  SimplifiedLayerNormalization: rootMeanSquare(17),
  InstanceNormalization: instance,
  GroupNormalization: group,
  BatchNormalization: batch,
  LRN: fc
    .tuple(image, oneOf(1, 3, 2), oneOf(0.1, 0.5), oneOf(0.75, 1))
    .map(([shape, window, alpha, beta]) => ({
      inputs: [{ shape }],
      attributes: { size: window, alpha: float(alpha), beta: float(beta), bias: float(1) },
    })),
  LpNormalization: dims(1, 3).chain((shape) =>
    fc
      .tuple(axisOf(shape.length), oneOf(1, 2))
      .map(([axis, p]) => ({ inputs: [{ shape }], attributes: { axis, p }, opset: 22 })),
  ),
  // A variance has no epsilon here: over several values only.
  MeanVarianceNormalization: fc.tuple(size, size).map(([batches, channels]) => ({
    inputs: [{ shape: [batches + 1, channels, 2, 2] }],
  })),
};

export const MICROSOFT_REDUCE: Draws = {
  SimplifiedLayerNormalization: rootMeanSquare(17),
  SkipLayerNormalization: fc.tuple(dims(3, 3), epsilon, bit, bit).map(([shape, value, bias, more]) => {
    const own = { shape: [shape[2]!] };
    const inputs = [{ shape }, { shape }, own, own, ...(bias ? [own] : [])];
    return { inputs, attributes: { epsilon: value }, outputs: more ? 4 : 1 };
  }),
  SkipSimplifiedLayerNormalization: fc.tuple(dims(3, 3), epsilon, bit).map(([shape, value, bias]) => {
    const own = { shape: [shape[2]!] };
    return { inputs: [{ shape }, { shape }, own, ...(bias ? [own] : [])], attributes: { epsilon: value } };
  }),
};
