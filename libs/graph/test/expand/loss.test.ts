import { describe, test } from "vitest";
import { checkGradient, int64 } from "../gradient/check.ts";
import { agrees, i32, i64 } from "../tfjs/harness.ts";
import { drawn } from "./draw.ts";

const CLASSES = 4;
const SHAPES = [[3], [2, 3], [2, 2, 3], [1, 2, 2, 2]] as const;

/** Labels 0…3 that step through the classes; every third one −1 where some are to be ignored. */
function labels(shape: readonly number[], ignored: number | undefined): number[] {
  const size = shape.reduce((product, d) => product * d, 1);
  return Array.from({ length: size }, (_, i) =>
    ignored !== undefined && i % 3 === 1 ? ignored : (i * 3) % CLASSES,
  );
}

for (const op of ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"]) {
  describe(op, () => {
    for (const opset of [12, 13])
      for (const reduction of ["none", "mean", "sum"])
        for (const ignored of [undefined, -1, 2])
          for (const weighted of [false, true]) {
            const attributes = { reduction, ...(ignored === undefined ? {} : { ignore_index: ignored }) };
            test(`opset ${opset} ${JSON.stringify(attributes)}${weighted ? " weighted" : ""}`, async () => {
              for (const shape of opset === 12 || weighted ? SHAPES : SHAPES.slice(0, 2)) {
                const [n, ...rest] = shape;
                const scores = [n!, CLASSES, ...rest];
                const to = labels(shape, ignored);
                const weights = weighted ? [drawn([CLASSES], 7)] : [];
                await agrees({
                  ...{ op, opset, attributes },
                  inputs: [drawn(scores), i64(shape, to), ...weights],
                  outputs: op.startsWith("Soft") ? 2 : 1,
                });
              }
            });
          }

    test("labels of int32", async () => {
      await agrees({ op, inputs: [drawn([3, CLASSES]), i32([3], [0, 3, 1])] });
    });

    test.each(["none", "mean", "sum"])("gradient, %s", async (reduction) => {
      for (const opset of [12, 13]) {
        const to = { tensor: int64([2, 3], labels([2, 3], 9)) };
        const weights = { shape: [CLASSES], frozen: true, values: [0.5, 1, 2, 1.5] };
        const inputs = [{ shape: [2, CLASSES, 3] }, to, weights];
        await checkGradient({ op, opset, inputs, attributes: { reduction, ignore_index: 9 } });
      }
    });
  });
}

test("both outputs of SoftmaxCrossEntropyLoss pass a gradient", async () => {
  const inputs = [{ shape: [3, CLASSES] }, { tensor: int64([3], [1, 0, 3]) }];
  await checkGradient({ op: "SoftmaxCrossEntropyLoss", inputs, outputs: 2 });
});
