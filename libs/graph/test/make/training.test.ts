import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import { float32, type Graph, type Tensors } from "../../src/ir.ts";
import { cnn } from "../../src/make/cnn.ts";
import { transformer } from "../../src/make/transformer.ts";
import { trace } from "../../src/trace.ts";
import { answers, ENGINES, int64, trainAll } from "./train.ts";

const [BATCH, SIDE, LENGTH] = [12, 8, 8];

/** A bright bar, standing (class 0) or lying (class 1), anywhere in noise. */
function bars(): Tensors {
  const random = seededRandom("bars");
  const pixels = new Float32Array(BATCH * SIDE * SIDE).map(() => 0.3 * random.normal());
  const labels = Array.from({ length: BATCH }, (_, row) => row % 2);
  for (const [row, lying] of labels.entries()) {
    const at = random.below(SIDE);
    for (let along = 0; along < SIDE; along++) {
      const place = lying ? at * SIDE + along : along * SIDE + at;
      pixels[row * SIDE * SIDE + place]! += 1;
    }
  }
  return new Map([
    ["x", float32([BATCH, 1, SIDE, SIDE], pixels)],
    ["label", int64([BATCH], labels)],
    ["row_weight", float32([BATCH], new Float32Array(BATCH).fill(1))],
  ]);
}

/** A language in which the next token is the sum of the last two, modulo 7. */
function sums(): Tensors {
  const random = seededRandom("sums");
  const texts = Array.from({ length: BATCH }, () => {
    const tokens = [random.below(7), random.below(7)];
    while (tokens.length <= LENGTH) tokens.push((tokens.at(-1)! + tokens.at(-2)!) % 7);
    return tokens;
  });
  // The second token follows from nothing, so the first place is not counted.
  const weights = texts.flatMap(() => Array.from({ length: LENGTH }, (_, at) => (at === 0 ? 0 : 1)));
  return new Map([
    [
      "input_ids",
      int64(
        [BATCH, LENGTH],
        texts.flatMap((text) => text.slice(0, -1)),
      ),
    ],
    [
      "label",
      int64(
        [BATCH * LENGTH],
        texts.flatMap((text) => text.slice(1)),
      ),
    ],
    ["row_weight", float32([BATCH * LENGTH], Float32Array.from(weights))],
  ]);
}

const images = (): Graph =>
  cnn({
    image: [1, SIDE, SIDE],
    layers: [
      { channels: 4, pool: 2 },
      { channels: 6, kernel: 3 },
    ],
    classes: 2,
    random: seededRandom("cnn"),
  });

const language = (): Graph =>
  transformer({
    ...{ kind: "decoder", layers: 1, width: 24, heads: 2, vocabulary: 7, length: 12, feedForward: 48 },
    ...{ head: "tokens", random: seededRandom("decoder") },
  });

const CASES = [
  { what: "a CNN on bars", model: images, batch: bars, steps: 60, learningRate: 0.1, start: Math.log(2) },
  {
    what: "a decoder on sums",
    model: language,
    batch: sums,
    steps: 150,
    learningRate: 0.05,
    start: Math.log(7),
  },
] as const;

describe("every weight of a made model trains", () => {
  for (const { what, model, batch, steps, learningRate, start } of CASES) {
    for (const engine of ENGINES) {
      test(`${what}, by ${engine.name}: the loss falls, and onnxruntime answers as trained`, async () => {
        const data = batch();
        const { losses, trained } = await trainAll(model(), { engine, batch: data, steps, learningRate });
        expect(Math.abs(losses[0]! - start)).toBeLessThan(0.5);
        expect(losses.at(-1)).toBeLessThan(0.25 * losses[0]!);
        const shapes = Object.fromEntries(trained.inputs.map(({ name }) => [name, data.get(name)!.shape]));
        const program = await engine.load(trace(trained, { shapes }));
        const own = (await program.step(data)).get("logits")!.data as Float32Array;
        await program.dispose();
        const file = await answers(trained, data);
        expect(file.length).toBe(own.length);
        for (const [at, value] of file.entries()) expect(Math.abs(value - own[at]!)).toBeLessThan(1e-4);
        expect(await answers(model(), data)).not.toEqual(file);
      });
    }
  }
});
