import { describe, test } from "vitest";
import { checkGradient } from "../gradient/check.ts";
import { agrees, f32 } from "../tfjs/harness.ts";

const x = f32([7], [-3, -0.6, -0.5, 0, 0.5, 0.7, 2]);

describe("Shrink", () => {
  for (const [lambd, bias] of [
    [0.5, 0],
    [0.6, 0.25],
  ] as const) {
    const attributes = { lambd: { float: lambd }, bias: { float: bias } };
    test(`λ ${lambd}, bias ${bias}`, async () => {
      await agrees({ op: "Shrink", inputs: [x], attributes });
      await checkGradient({ op: "Shrink", inputs: [{ shape: [4], values: [-3, -0.2, 0.3, 2] }], attributes });
    });
  }
});

test("com.microsoft QuickGelu", async () => {
  await agrees({
    op: "QuickGelu",
    domain: "com.microsoft",
    inputs: [x],
    attributes: { alpha: { float: 1.5 } },
  });
});
