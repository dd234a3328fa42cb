import { expect, test } from "vitest";
import { fromBfloat16, fromHalf, toHalf } from "../../src/half.ts";

test("every binary16 number survives the way there and back", () => {
  for (let bits = 0; bits < 0x10000; bits++) {
    const value = fromHalf(bits);
    if (Number.isNaN(value)) expect(Number.isNaN(fromHalf(toHalf(value)))).toBe(true);
    else if (toHalf(value) !== bits) expect(toHalf(value)).toBe(bits);
  }
});

test("IEEE 754-2019, 4.3.1: to nearest, ties to even", () => {
  for (let bits = 0; bits < 0x7bff; bits++) {
    const [low, high] = [fromHalf(bits), fromHalf(bits + 1)];
    const middle = (low + high) / 2;
    const even = bits % 2 === 0 ? bits : bits + 1;
    const near = [toHalf(middle), toHalf(middle - (high - low) / 1e3), toHalf(middle + (high - low) / 1e3)];
    if (`${near}` !== `${[even, bits, bits + 1]}`) expect(near).toEqual([even, bits, bits + 1]);
  }
  expect(toHalf(65_519.99)).toBe(0x7bff);
  expect(toHalf(65_520)).toBe(0x7c00);
});

test("bfloat16 is the upper half of a float32", () => {
  expect([0x3f80, 0xc040, 0x7f80].map(fromBfloat16)).toEqual([1, -3, Number.POSITIVE_INFINITY]);
});
