import { expect, test } from "vitest";
import { Memo } from "../src/memo.ts";

test("a value is made once for each object, also one that is undefined, and again after it failed", () => {
  const memo = new Memo<object, number | undefined>();
  const [a, b] = [{}, {}];
  let made = 0;
  const next = () => (made++ === 0 ? undefined : made);
  expect([memo.of(a, next), memo.of(a, next), memo.of(b, next), memo.of(b, next)]).toEqual([
    undefined,
    undefined,
    2,
    2,
  ]);
  const c = {};
  expect(() =>
    memo.of(c, () => {
      throw new Error("not yet");
    }),
  ).toThrow("not yet");
  expect(memo.of(c, next)).toBe(3);
});
