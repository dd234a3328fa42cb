import fc from "fast-check";
import { describe, test } from "vitest";
import { sizeOf, type Tensor } from "../../src/ir.ts";
import { dim, property } from "./arbitrary.ts";
import { type AttributeInit, agrees, type Case, f32, u8 } from "./harness.ts";

const wave = (shape: readonly number[], phase = 0): Tensor =>
  f32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i * 1.7 + phase)),
  );

const per = <T>(value: fc.Arbitrary<T>, axes: number) =>
  fc.array(value, { minLength: axes, maxLength: axes });

/** A window over one to three axes: kernel, strides, dilations, pads, and inputs it fits into. */
const windows = fc.constantFrom(1, 2, 3).chain((axes) =>
  fc.record({
    kernel: per(fc.integer({ min: 1, max: 3 }), axes),
    strides: per(fc.integer({ min: 1, max: 3 }), axes),
    dilations: per(fc.integer({ min: 1, max: 2 }), axes),
    pads: per(fc.integer({ min: 0, max: 2 }), 2 * axes),
    input: per(fc.integer({ min: 5, max: axes > 2 ? 6 : 8 }), axes),
  }),
);

/** Channels in, filters out, groups: plain, depthwise with a multiplier, and in between. */
const groupings = fc.constantFrom([1, 1, 1], [3, 4, 1], [3, 3, 3], [2, 6, 2], [4, 2, 2], [6, 3, 3]);

const constants = fc.subarray([0, 1, 2]);

describe("Conv", () => {
  test("strides, dilations, pads, groups, one to three axes", () =>
    property(
      fc
        .tuple(windows, groupings, dim, fc.boolean(), constants)
        .map(([{ kernel, strides, dilations, pads, input }, [c, m, group], n, biased, constant]) => ({
          op: "Conv",
          attributes: { strides, dilations, pads, group: group! },
          inputs: [
            wave([n, c!, ...input]),
            wave([m!, c! / group!, ...kernel], 1),
            ...(biased ? [wave([m!], 2)] : []),
          ],
          constant: constant.filter((index) => biased || index < 2),
        })),
      { runs: 30 },
    ));
  test("auto_pad", async () => {
    for (const auto_pad of ["SAME_UPPER", "SAME_LOWER", "VALID"])
      await agrees({
        op: "Conv",
        attributes: { auto_pad, strides: [2, 2] },
        inputs: [wave([1, 2, 6, 7]), wave([3, 2, 3, 2], 1)],
      });
  });
  test("a gradient by weight: batch as channels, the other gradient as kernel, strides as dilations", () =>
    agrees({
      op: "Conv",
      attributes: { strides: [1, 1], dilations: [2, 2], pads: [1, 1, 1, 1] },
      inputs: [wave([3, 8, 9, 9]), wave([4, 8, 5, 5], 1)],
    }));
  test("of an empty batch", () =>
    agrees({ op: "Conv", inputs: [wave([0, 2, 4, 4]), wave([3, 2, 3, 3]), wave([3])] }));
});

describe("ConvTranspose", () => {
  test("strides, dilations, pads, groups, output padding", () =>
    property(
      fc
        .tuple(windows, groupings, fc.boolean(), constants, fc.nat(2))
        .map(([{ kernel, strides, dilations, pads, input }, [c, m, group], biased, constant, more]): Case => {
          const output_padding = strides.map((stride) => Math.min(more, stride - 1));
          return {
            op: "ConvTranspose",
            attributes: { strides, dilations, pads, group: group!, output_padding },
            inputs: [
              wave([2, c!, ...input]),
              wave([c!, m! / group!, ...kernel], 1),
              ...(biased ? [wave([m!], 2)] : []),
            ],
            constant: constant.filter((index) => biased || index < 2),
          };
        })
        .filter(({ attributes, inputs }) => leavesSomething(attributes!, inputs as Tensor[])),
      { runs: 30 },
    ));
  test("an output shape, and auto_pad", async () => {
    const inputs = [wave([1, 2, 4, 5]), wave([2, 3, 3, 3], 1)];
    await agrees({ op: "ConvTranspose", attributes: { strides: [2, 2], output_shape: [8, 11] }, inputs });
    for (const auto_pad of ["SAME_UPPER", "SAME_LOWER"])
      await agrees({ op: "ConvTranspose", attributes: { strides: [2, 2], auto_pad }, inputs });
  });
});

/** Whether the pads cut off less than there is. */
function leavesSomething(attributes: Record<string, AttributeInit>, [x, w]: readonly Tensor[]): boolean {
  const { strides, dilations, pads } = attributes as Record<string, number[]>;
  const axes = strides!.length;
  return strides!.every((stride, axis) => {
    const full = stride * (x!.shape[axis + 2]! - 1) + (w!.shape[axis + 2]! - 1) * dilations![axis]! + 1;
    return full - pads![axis]! - pads![axis + axes]! > 0;
  });
}

describe("MaxPool", () => {
  const pools = fc.tuple(windows, fc.boolean(), fc.boolean()).map(([window, dilated, ceil]) => ({
    ...window,
    dilations: dilated ? window.dilations : window.dilations.map(() => 1),
    // ONNX wants pads smaller than the kernel.
    pads: window.pads.map((pad, at) => Math.min(pad, window.kernel[at % window.kernel.length]! - 1)),
    ceil_mode: ceil ? 1 : 0,
  }));
  const attributesOf = ({
    kernel,
    strides,
    dilations,
    pads,
    ceil_mode,
  }: typeof pools extends fc.Arbitrary<infer T> ? T : never) => ({
    kernel_shape: kernel,
    strides,
    dilations,
    pads,
    ceil_mode,
  });
  test("strides, dilations, pads, ceil_mode", () =>
    property(
      pools.map((pool) => ({
        op: "MaxPool",
        attributes: attributesOf(pool),
        inputs: [wave([2, 3, ...pool.input])],
      })),
      { runs: 25 },
    ));
  test("with indices", () =>
    property(
      pools.map((pool) => ({
        op: "MaxPool",
        attributes: attributesOf(pool),
        inputs: [wave([2, 3, ...pool.input])],
        outputs: 2,
      })),
      { runs: 20 },
    ));
  test("indices with the first spatial axis fastest", async () => {
    for (const image of [
      [4, 5],
      [3, 4, 5],
    ])
      await agrees({
        op: "MaxPool",
        attributes: { kernel_shape: image.map(() => 2), storage_order: 1 },
        inputs: [wave([2, 3, ...image])],
        outputs: 2,
      });
  });
  test("of 8-bit integers", async () => {
    for (const outputs of [1, 2])
      await agrees({
        op: "MaxPool",
        attributes: { kernel_shape: [2, 3], pads: [1, 1, 0, 1] },
        inputs: [
          u8(
            [1, 2, 4, 4],
            Array.from({ length: 32 }, (_, i) => (i * 37) % 256),
          ),
        ],
        outputs,
      });
  });
  test("indices of equal cells name the first", () =>
    agrees({
      op: "MaxPool",
      attributes: { kernel_shape: [2, 2], strides: [2, 2] },
      inputs: [f32([1, 1, 4, 4], new Float32Array(16).fill(1))],
      outputs: 2,
    }));
  test("AveragePool, counting pads or not", () =>
    property(
      fc.tuple(pools, fc.integer({ min: 0, max: 1 })).map(([pool, count_include_pad]) => ({
        op: "AveragePool",
        opset: 19,
        attributes: { ...attributesOf(pool), count_include_pad },
        inputs: [wave([2, 3, ...pool.input])],
      })),
      { runs: 25 },
    ));
  test("over the whole plane", async () => {
    for (const op of ["GlobalAveragePool", "GlobalMaxPool"])
      for (const shape of [
        [2, 3, 4],
        [2, 3, 4, 5],
        [2, 3, 2, 4, 5],
        [0, 3, 4],
      ])
        await agrees({ op, inputs: [wave(shape)] });
  });
});
