import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { float32 } from "../../src/ir.ts";
import { cnn } from "../../src/make/cnn.ts";
import { trace } from "../../src/trace.ts";
import { answers } from "./train.ts";

const options = { image: [3, 9, 7], layers: [{ channels: 4 }], classes: 5 } as const;

describe("cnn", () => {
  test("names and shapes are torch's", () => {
    const layers = [
      { channels: 4, stride: 2 },
      { channels: 6, kernel: 5, pool: 2 },
    ];
    const graph = cnn({ ...options, layers, random: seededRandom(1) });
    expect([...graph.initializers].map(([name, { shape }]) => `${name} [${shape}]`)).toEqual([
      "features.0.weight [4,3,3,3]",
      "features.0.bias [4]",
      "features.1.weight [6,4,5,5]",
      "features.1.bias [6]",
      "classifier.weight [5,6]",
      "classifier.bias [5]",
    ]);
    expect(graph.nodes.map(({ name }) => name)).toContain("/features.1/Conv");
  });

  test("the classifier fits what every kernel, stride and pool leave", async () => {
    for (const kernel of [1, 2, 3, 5])
      for (const stride of [1, 2, 3])
        for (const pool of [1, 2]) {
          const layers = [{ channels: 2, kernel, stride, pool }];
          const graph = cnn({ ...options, layers, reads: "all", random: seededRandom(1) });
          expect(trace(graph, { symbols: { batch: 2 } }).statics.get("logits")!.shape).toEqual([2, 5]);
        }
    const graph = cnn({ ...options, random: seededRandom(1) });
    const x = float32([2, 3, 9, 7], new Float32Array(2 * 3 * 9 * 7).fill(1));
    expect(await answers(graph, new Map([["x", x]]))).toHaveLength(10);
  });

  test("what pools leave must be something", () => {
    const layers = [{ channels: 2, pool: 8 }];
    expect(() => cnn({ ...options, layers, random: seededRandom(1) })).toThrow(/left of the image.*got 0/);
    expect(() => cnn({ ...options, layers: [{ channels: 0 }], random: seededRandom(1) })).toThrow(
      /features.0/,
    );
  });
});
