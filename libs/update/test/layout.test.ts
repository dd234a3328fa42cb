import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { flatten, layoutOf, MAX_LENGTH, unflatten } from "../src/layout.ts";

const specs = fc.uniqueArray(
  fc.record({ name: fc.string(), shape: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }) }),
  { selector: ({ name }) => name, maxLength: 8 },
);

describe("layout", () => {
  test("tensors lie end to end in the order given; a scalar takes one coordinate", () => {
    const layout = layoutOf([
      { name: "a", shape: [2, 3] },
      { name: "s", shape: [] },
      { name: "b", shape: [4] },
    ]);
    expect(layout.tensors.map(({ offset }) => offset)).toEqual([0, 6, 7]);
    expect(layout.length).toBe(11);
  });

  test("unflatten undoes flatten", () => {
    fc.assert(
      fc.property(specs, (list) => {
        const layout = layoutOf(list);
        const flat = Float32Array.from({ length: layout.length }, (_, i) => i + 1);
        const tensors = unflatten(layout, flat);
        expect([...tensors.keys()]).toEqual(list.map(({ name }) => name));
        expect(flatten(layout, tensors)).toEqual(flat);
      }),
    );
  });

  test("unflatten gives views: writing to one writes to the vector", () => {
    const layout = layoutOf([
      { name: "a", shape: [2] },
      { name: "b", shape: [2] },
    ]);
    const flat = new Float32Array(4);
    unflatten(layout, flat).get("b")![0] = 7;
    expect([...flat]).toEqual([0, 0, 7, 0]);
  });

  test("refused by name: two of one name, no size, a tensor missing or of another size, too much", () => {
    const one = { name: "a", shape: [2] };
    expect(() => layoutOf([one, one])).toThrow("expected distinct names, got two of a");
    for (const size of [0, -1, 1.5, Number.NaN]) {
      expect(() => layoutOf([{ name: "w", shape: [size] }])).toThrow("layout of w: expected positive sizes");
    }
    expect(() => layoutOf([{ name: "w", shape: [MAX_LENGTH + 1] }])).toThrow(
      `at most ${MAX_LENGTH} coordinates`,
    );
    const layout = layoutOf([one]);
    expect(() => flatten(layout, new Map())).toThrow("tensor a: expected 2 values, got nothing");
    expect(() => flatten(layout, new Map([["a", new Float32Array(3)]]))).toThrow("expected 2 values, got 3");
    expect(() => unflatten(layout, new Float32Array(1))).toThrow("1 of 2 coordinates");
  });
});
