import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkGradient } from "../gradient/check.ts";
import {
  type AttributeInit,
  agrees,
  BACKENDS,
  type Case,
  expectClose,
  f32,
  i64,
  onTfjs,
  reference,
} from "../tfjs/harness.ts";
import { drawn } from "./draw.ts";

type Attributes = Record<string, AttributeInit>;

/** Scales, or sizes, or a region beside either; all held constant as every exporter writes them. */
type Wanted = { scales?: readonly number[]; sizes?: readonly number[]; roi?: readonly number[] };

function resize(shape: readonly number[], { scales, sizes, roi }: Wanted, attributes: Attributes): Case {
  return {
    op: "Resize",
    opset: 19,
    inputs: [
      drawn(shape),
      roi ? f32([roi.length], roi) : undefined,
      scales ? f32([scales.length], scales) : undefined,
      ...(sizes ? [i64([sizes.length], sizes)] : []),
    ],
    constant: [1, 2, 3],
    attributes,
  };
}

/** A case's own inputs for the gradient: the image varies, the rest is held. */
async function gradientAlso(test: Case, seed = 1): Promise<void> {
  await agrees(test);
  const [image, ...rest] = test.inputs;
  const held = rest.map((tensor) => (tensor ? { tensor } : undefined));
  const attributes = test.attributes as Record<
    string,
    number | string | readonly number[] | { float: number }
  >;
  await checkGradient({
    op: test.op,
    opset: test.opset!,
    inputs: [{ shape: image!.shape }, ...held],
    attributes,
    seed,
  });
}

const COORDINATES = [
  "half_pixel",
  "half_pixel_symmetric",
  "pytorch_half_pixel",
  "align_corners",
  "asymmetric",
  "tf_half_pixel_for_nn",
];
const ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];

describe("nearest", () => {
  for (const coordinate_transformation_mode of COORDINATES)
    for (const nearest_mode of ROUNDINGS)
      test(`${coordinate_transformation_mode}, ${nearest_mode}`, async () => {
        const attributes = { mode: "nearest", coordinate_transformation_mode, nearest_mode };
        await agrees(resize([1, 2, 3, 4], { scales: [1, 1, 2, 3] }, attributes));
        await agrees(resize([1, 2, 5, 7], { scales: [1, 1, 0.6, 0.8] }, attributes));
        await agrees(resize([1, 1, 4, 6], { sizes: [1, 1, 7, 5] }, attributes));
      });

  test("gradient", async () => {
    const attributes = { mode: "nearest" };
    for (const sizes of [
      [1, 2, 6, 12],
      [1, 2, 5, 3],
    ])
      await gradientAlso(resize([1, 2, 3, 4], { sizes }, attributes));
  });

  test("integers too", async () => {
    await agrees({
      ...resize([1], { sizes: [1, 1, 3, 5] }, { mode: "nearest" }),
      inputs: [
        { dtype: "int32", shape: [1, 1, 2, 2], data: Int32Array.of(1, 2, 3, 4) },
        undefined,
        undefined,
        i64([4], [1, 1, 3, 5]),
      ],
    });
  });
});

describe("linear and cubic", () => {
  for (const coordinate_transformation_mode of COORDINATES.slice(0, 5))
    for (const mode of ["linear", "cubic"])
      test(`${mode}, ${coordinate_transformation_mode}`, async () => {
        const attributes = { mode, coordinate_transformation_mode };
        await gradientAlso(resize([1, 2, 3, 4], { scales: [1, 1, 2, 2.5] }, attributes));
        await agrees(resize([1, 1, 5, 7], { scales: [1, 1, 0.6, 0.8] }, attributes));
        await agrees(resize([1, 1, 4, 6], { sizes: [1, 1, 1, 9] }, attributes));
      });

  test("cubic with its slope, outside excluded", async () => {
    const attributes = { mode: "cubic", cubic_coeff_a: { float: -0.5 }, exclude_outside: 1 };
    await gradientAlso(resize([1, 1, 4, 5], { sizes: [1, 1, 9, 3] }, attributes));
  });

  test("antialiased", async () => {
    for (const mode of ["linear", "cubic"])
      for (const exclude_outside of [0, 1])
        for (const sizes of [
          [1, 1, 3, 2],
          [1, 1, 2, 11],
        ])
          await gradientAlso(resize([1, 1, 7, 5], { sizes }, { mode, antialias: 1, exclude_outside }));
  });

  // onnxruntime resizes no vector; it does a row.
  test.each([
    [1, 3],
    [3, 1],
    [3, 5],
  ])("a vector of %i to %i, as a row", async (from, to) => {
    const row = resize([1, from], { sizes: [1, to] }, { mode: "linear" });
    const { data } = (await reference(row)).get("y0")!;
    const wanted = f32([to], data as Float32Array);
    const vector = resize([from], { sizes: [to] }, { mode: "linear" });
    for (const backend of BACKENDS) {
      const got = await onTfjs(backend, vector, new Map([["y0", wanted]]));
      expectClose(got.get("y0")!, wanted, backend);
    }
  });

  test("one and three axes of space", async () => {
    await gradientAlso(resize([1, 1, 5], { sizes: [1, 1, 8] }, { mode: "linear" }));
    await gradientAlso(resize([1, 1, 2, 3, 3], { sizes: [1, 1, 3, 2, 6] }, { mode: "linear" }));
  });
});

test("a region, and a value for what lies outside it", async () => {
  for (const mode of ["nearest", "linear", "cubic"]) {
    const attributes = {
      ...{ mode, coordinate_transformation_mode: "tf_crop_and_resize" },
      extrapolation_value: { float: 10 },
    };
    const inside = [0, 0, 0.4, 0.6, 1, 1, 0.6, 0.9];
    const outside = [0, 0, -0.2, 0.6, 1, 1, 0.6, 1.3];
    for (const roi of [inside, outside])
      await gradientAlso(resize([1, 1, 4, 5], { sizes: [1, 1, 3, 4], roi }, attributes));
    await agrees(resize([1, 1, 8, 5], { scales: [1, 1, 0.8, 0.9], roi: inside }, attributes));
  }
});

test("axes and the aspect ratio", async () => {
  for (const keep_aspect_ratio_policy of ["stretch", "not_larger", "not_smaller"])
    for (const mode of ["nearest", "linear"]) {
      const attributes = { mode, axes: [3, 2], keep_aspect_ratio_policy };
      await agrees(resize([1, 1, 3, 5], { sizes: [7, 8] }, attributes));
      await agrees(resize([1, 1, 6, 5], { sizes: [3, 2] }, attributes));
    }
});

describe("before version 11", () => {
  test("Resize 10", async () => {
    for (const mode of ["nearest", "linear"])
      for (const scales of [
        [1, 1, 2, 3],
        [1, 1, 0.6, 0.6],
      ])
        await agrees({
          ...{ op: "Resize", opset: 10, attributes: { mode }, constant: [1] },
          inputs: [drawn([1, 1, 4, 5]), f32([4], scales)],
        });
  });

  test("Upsample 7 and 9", async () => {
    for (const mode of ["nearest", "linear"]) {
      const scales = [1, 1, 2, 1.5];
      const image = drawn([1, 2, 3, 4]);
      await agrees({
        op: "Upsample",
        opset: 7,
        attributes: { mode, scales: { floats: scales } },
        inputs: [image],
      });
      await agrees({
        ...{ op: "Upsample", opset: 9, attributes: { mode }, constant: [1] },
        inputs: [image, f32([4], scales)],
      });
    }
  });
});

test("whatever the sizes and the mode", async () => {
  const size = fc.integer({ min: 1, max: 9 });
  const arbitrary = fc.record({
    from: fc.tuple(size, size),
    to: fc.tuple(size, size),
    mode: fc.constantFrom("nearest", "linear", "cubic"),
    coordinate_transformation_mode: fc.constantFrom(...COORDINATES.slice(0, 5)),
    nearest_mode: fc.constantFrom(...ROUNDINGS),
    antialias: fc.boolean(),
  });
  let ran = 0;
  await fc.assert(
    fc.asyncProperty(arbitrary, async ({ from, to, antialias, ...attributes }) => {
      const smooth = antialias && attributes.mode !== "nearest";
      await agrees(
        resize(
          [1, 1, ...from],
          { sizes: [1, 1, ...to] },
          { ...attributes, ...(smooth ? { antialias: 1 } : {}) },
        ),
      );
      ran++;
    }),
    { numRuns: 60, seed: 1 },
  );
  expect(ran).toBeGreaterThan(0);
});
