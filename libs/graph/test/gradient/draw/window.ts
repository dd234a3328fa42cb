import fc from "fast-check";
import { activated, bit, type Draw, type Draws, dims, float, held, ints, oneOf, size } from "./draw.ts";

/** Geometry along one axis with at least one window. */
const axis = fc
  .record({
    size: fc.integer({ min: 1, max: 5 }),
    kernel: fc.integer({ min: 1, max: 3 }),
    stride: fc.integer({ min: 1, max: 3 }),
    dilation: fc.integer({ min: 1, max: 2 }),
    before: fc.nat(2),
    after: fc.nat(2),
  })
  .filter(
    ({ size, kernel, dilation, before, after }) => size + before + after >= (kernel - 1) * dilation + 1,
  );
export type Axis = typeof axis extends fc.Arbitrary<infer T> ? T : never;

export const planes = fc.array(axis, { minLength: 1, maxLength: 2 });

export const windowOf = (axes: readonly Axis[]) => ({
  kernel_shape: axes.map((a) => a.kernel),
  strides: axes.map((a) => a.stride),
  dilations: axes.map((a) => a.dilation),
  pads: [...axes.map((a) => a.before), ...axes.map((a) => a.after)],
});

// With ceil_mode a window may reach beyond the padding, but one that would begin there does not exist; and a
// window on padding alone has no maximum and no mean.
function allowedAxis(a: Axis): boolean {
  const room = a.size + a.before + a.after - (a.kernel - 1) * a.dilation - 1;
  const last = Math.ceil(room / a.stride);
  if (last * a.stride >= a.size + a.before) return false;
  return Array.from({ length: last + 1 }, (_, at) => at * a.stride - a.before).every((start) =>
    Array.from({ length: a.kernel }, (_, k) => start + k * a.dilation).some((at) => at >= 0 && at < a.size),
  );
}
// onnxruntime wants pads smaller than the kernel.
const allowed = (axes: readonly Axis[]) =>
  axes.every((a) => a.before < a.kernel && a.after < a.kernel && allowedAxis(a));
export const pooled = planes.filter(allowed);
export const undilated = planes.map((axes) => axes.map((a) => ({ ...a, dilation: 1 }))).filter(allowed);

const groups = fc.record({ group: oneOf(1, 2), inPer: oneOf(1, 2), outPer: oneOf(1, 2) });

/** A small image of one or two spatial axes, or of three without attributes. */
const convolution: Draw = fc
  .tuple(planes, groups, fc.boolean(), fc.boolean())
  .map(([axes, { group, inPer, outPer }, frozen, bias]) => ({
    inputs: [
      { shape: [2, group * inPer, ...axes.map((a) => a.size)] },
      { shape: [group * outPer, inPer, ...axes.map((a) => a.kernel)], frozen },
      ...(bias ? [{ shape: [group * outPer] }] : []),
    ],
    attributes: { ...windowOf(axes), group },
  }));

const volume: Draw = fc.tuple(dims(3, 3), oneOf(1, 2)).map(([space, group]) => ({
  inputs: [{ shape: [1, 2, ...space.map((d) => d + 1)] }, { shape: [2, 2 / group, 2, 1, 2] }],
  attributes: { group, pads: [0, 1, 0, 1, 0, 0] },
}));

const sized: Draw = fc
  .tuple(oneOf("SAME_UPPER", "SAME_LOWER", "VALID"), fc.tuple(size, size), fc.tuple(oneOf(1, 2), oneOf(1, 2)))
  .map(([auto_pad, more, strides]) => ({
    inputs: [{ shape: [1, 1, 2 + more[0], 2 + more[1]] }, { shape: [1, 1, 3, 2] }],
    attributes: { auto_pad, strides },
  }));

/** Output padding stays below the stride, as onnxruntime wants it. */
const transposed: Draw = fc
  .tuple(planes, groups, bit)
  .filter(([axes]) =>
    axes.every((a) => a.stride * (a.size - 1) + (a.kernel - 1) * a.dilation + 1 > a.before + a.after),
  )
  .map(([axes, { group, inPer, outPer }, extra]) => ({
    inputs: [
      { shape: [1, group * inPer, ...axes.map((a) => a.size)] },
      { shape: [group * inPer, outPer, ...axes.map((a) => a.kernel)] },
      { shape: [group * outPer] },
    ],
    attributes: { ...windowOf(axes), group, output_padding: axes.map((a) => extra % a.stride) },
  }));

const pool = (axes: readonly Axis[]) => ({ inputs: [{ shape: [1, 2, ...axes.map((a) => a.size)] }] });

const maximum: Draw = fc.tuple(pooled, bit, oneOf(1, 2)).map(([axes, ceil_mode, outputs]) => ({
  ...pool(axes),
  attributes: { ...windowOf(axes), ceil_mode },
  outputs,
}));

const undilatedWindow = (axes: readonly Axis[]) => {
  const { dilations: _, ...window } = windowOf(axes);
  return window;
};

const average: Draw = fc.tuple(undilated, bit, bit).map(([axes, ceil_mode, count_include_pad]) => ({
  ...pool(axes),
  attributes: { ...undilatedWindow(axes), ceil_mode, count_include_pad },
}));

const image: Draw = fc
  .tuple(size, size, dims(1, 3))
  .map(([batch, channels, space]) => ({ inputs: [{ shape: [batch, channels, ...space] }] }));

/** Columns of a small image, put together again. */
const columns: Draw = fc
  .tuple(planes, size)
  .filter(([axes]) => axes.every((a) => count(a) > 0))
  .map(([axes, channels]) => {
    const { kernel_shape, ...window } = windowOf(axes);
    const total = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);
    return {
      inputs: [
        { shape: [1, channels * total(kernel_shape), total(axes.map(count))] },
        held(...axes.map((a) => a.size)),
        held(...kernel_shape),
      ],
      attributes: window,
      opset: 18,
    };
  });

const count = (a: Axis) =>
  Math.floor((a.size + a.before + a.after - (a.kernel - 1) * a.dilation - 1) / a.stride) + 1;

/** Values at places that no two of them share. */
const unpooled: Draw = fc.tuple(size, size).chain(([height, width]) =>
  fc
    .shuffledSubarray([...Array(4 * height * width).keys()], {
      minLength: height * width,
      maxLength: height * width,
    })
    .map((places) => ({
      inputs: [{ shape: [1, 1, height, width] }, ints([1, 1, height, width], places, true)],
      attributes: { kernel_shape: [2, 2], strides: [2, 2] },
    })),
);

export const WINDOW: Draws = {
  Conv: fc.oneof(
    { weight: 4, arbitrary: convolution },
    { weight: 1, arbitrary: volume },
    { weight: 1, arbitrary: sized },
  ),
  ConvTranspose: fc.oneof({ weight: 4, arbitrary: transposed }, { weight: 1, arbitrary: sized }),
  MaxPool: maximum,
  AveragePool: average,
  LpPool: fc.tuple(undilated, oneOf(1, 2, 3)).map(([axes, p]) => ({
    ...pool(axes),
    attributes: { ...undilatedWindow(axes), p },
    opset: 22,
  })),
  Col2Im: columns,
  MaxUnpool: unpooled,
  GlobalAveragePool: image,
  GlobalMaxPool: image,
  GlobalLpPool: fc.tuple(image, oneOf(1, 2, 3)).map(([it, p]) => ({ ...it, attributes: { p } })),
  Resize: resized(),
  Upsample: fc.tuple(oneOf("nearest", "linear"), size, size).map(([mode, rows, columns]) => ({
    inputs: [{ shape: [1, 1, 2, 3] }, { shape: [4], values: [1, 1, rows, columns], frozen: true }],
    attributes: { mode },
    opset: 9,
  })),
};

export const MICROSOFT_WINDOW: Draws = { FusedConv: activated(convolution) };

/** By sizes, up or down, in every mode. */
function resized(): Draw {
  const coordinates = oneOf("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric");
  const options = fc.record({
    mode: oneOf("nearest", "linear", "cubic"),
    coordinate_transformation_mode: coordinates,
    antialias: bit,
    rows: fc.integer({ min: 1, max: 6 }),
    columns: fc.integer({ min: 1, max: 6 }),
  });
  return options.map(({ rows, columns, antialias, ...attributes }) => ({
    inputs: [
      { shape: [1, 2, 3, 4] },
      undefined,
      undefined,
      {
        tensor: { dtype: "int64", shape: [4], data: BigInt64Array.of(1n, 2n, BigInt(rows), BigInt(columns)) },
      },
    ],
    attributes: {
      ...attributes,
      ...(attributes.mode === "nearest" ? {} : { antialias }),
      cubic_coeff_a: float(-0.5),
    },
    opset: 19,
  }));
}
