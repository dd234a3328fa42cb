import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { full, holdsFor, sparse } from "./exact.ts";

describe("a whole session", () => {
  test("opens to the plain sum of U3 bit for bit, or fails below t with nothing revealed", async () => {
    const ended = { opened: 0, failed: 0 };
    const property = fc.asyncProperty(full, async (one) => void ended[await holdsFor(one)]++);
    await fc.assert(property, { numRuns: 300 });
    expect(ended.opened).toBeGreaterThan(30);
    expect(ended.failed).toBeGreaterThan(30);
  }, 120_000);

  test("the same on the sparse graph", async () => {
    await fc.assert(
      fc.asyncProperty(sparse, async (one) => void (await holdsFor(one))),
      { numRuns: 2 },
    );
  }, 120_000);
});
