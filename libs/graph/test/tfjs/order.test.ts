import fc from "fast-check";
import { describe, test } from "vitest";
import { flag, floats, ints, longs, property, shapeOf } from "./arbitrary.ts";
import { agrees, f32, i64 } from "./harness.ts";

describe("TopK", () => {
  test("largest or smallest, any axis and type, with equals among them", () =>
    property(
      shapeOf(1, 4).chain((shape) =>
        fc
          .tuple(
            fc.oneof(floats(shape), longs(shape, -2, 2), ints(shape, -2, 2)),
            fc.integer({ min: -shape.length, max: shape.length - 1 }),
            fc.nat(100),
            flag,
          )
          .map(([x, axis, some, largest]) => ({
            op: "TopK",
            attributes: { axis, largest, sorted: 1 },
            inputs: [x, i64([1], [1 + (some % shape.at(axis)!)])],
            constant: [1],
            outputs: 2,
          })),
      ),
      { runs: 40 },
    ));
  test("equals keep their order, over rows longer than a hand can hold", async () => {
    const x = f32(
      [2, 700],
      Array.from({ length: 1400 }, (_, i) => (i * 31) % 7),
    );
    for (const largest of [0, 1])
      await agrees({
        op: "TopK",
        attributes: { largest },
        inputs: [x, i64([1], [350])],
        constant: [1],
        outputs: 2,
      });
  });
  // tfjs's cpu backend subtracts to compare: among several equal infinities its order is its own.
  test("infinities", async () => {
    const x = f32([5], [-Infinity, 2, Infinity, -1e38, 0]);
    for (const largest of [0, 1])
      await agrees({
        op: "TopK",
        attributes: { largest },
        inputs: [x, i64([1], [4])],
        constant: [1],
        outputs: 2,
      });
  });
});
