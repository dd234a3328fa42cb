import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../runs.ts";
import { told } from "./check.ts";
import { casesOf, differentiable, drawable } from "./draw/every.ts";
import { LIMIT, measure } from "./measure.ts";

test("every operator with a gradient has random cases, and no other", () => {
  expect(drawable()).toEqual(differentiable());
});

describe("random shapes and attributes, against central differences and on both engines", () => {
  for (const op of drawable()) {
    test(op, () =>
      fc.assert(
        fc.asyncProperty(casesOf(op), async (it) => {
          const errors = await measure(it);
          const what = `${told(it)}: ${JSON.stringify(errors)}`;
          expect(errors.rule, what).toBeLessThanOrEqual(LIMIT.rule);
          expect(errors.gradient, what).toBeLessThanOrEqual(LIMIT.gradient);
          expect(errors.engines, what).toBeLessThanOrEqual(LIMIT.engines);
        }),
        { numRuns: runs(4) },
      ),
    );
  }
});
