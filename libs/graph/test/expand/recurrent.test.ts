import { seededRandom } from "@tutti/foundation/random";
import { describe, test } from "vitest";
import type { Tensor } from "../../src/ir.ts";
import { agrees, type Case, f32, i32 } from "../tfjs/harness.ts";

const GATES = { RNN: 1, GRU: 3, LSTM: 4 } as const;
type Kind = keyof typeof GATES;
const KINDS = Object.keys(GATES) as Kind[];

const random = seededRandom(7);
const draw = (...shape: number[]): Tensor =>
  f32(
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.uniform() * 2 - 1),
  );

type Sizes = { steps?: number; batch?: number; width?: number; hidden?: number; directions?: number };
/** Inputs X, W, R, B, sequence_lens, initial_h, initial_c, P as far as `with` asks. */
function inputs(kind: Kind, sizes: Sizes, wanted: string): (Tensor | undefined)[] {
  const { steps = 3, batch = 2, width = 4, hidden = 3, directions = 1 } = sizes;
  const rows = GATES[kind] * hidden;
  const has = (letter: string, make: () => Tensor) => (wanted.includes(letter) ? make() : undefined);
  const all = [
    draw(steps, batch, width),
    draw(directions, rows, width),
    draw(directions, rows, hidden),
    has("B", () => draw(directions, 2 * rows)),
    has("L", () =>
      i32(
        [batch],
        Array.from({ length: batch }, (_, n) => Math.max(0, steps - 2 * n)),
      ),
    ),
    has("h", () => draw(directions, batch, hidden)),
    has("c", () => draw(directions, batch, hidden)),
    has("P", () => draw(directions, 3 * hidden)),
  ];
  return kind === "LSTM" ? all : all.slice(0, 6);
}

const outputs = (kind: Kind) => (kind === "LSTM" ? 3 : 2);
const run = (kind: Kind, rest: Partial<Case> & { inputs: Case["inputs"] }) =>
  agrees(
    { op: kind, outputs: outputs(kind), ...rest, attributes: { hidden_size: 3, ...rest.attributes } },
    1e-5,
  );

for (const kind of KINDS) {
  describe(`${kind} as onnxruntime has it`, () => {
    for (const direction of ["forward", "reverse", "bidirectional"]) {
      const directions = direction === "bidirectional" ? 2 : 1;
      for (const opset of [7, 14, 22]) {
        test(`${direction}, operator set ${opset}, all inputs`, async () => {
          const wanted = kind === "LSTM" ? "BLhcP" : "BLh";
          const given = inputs(kind, { directions }, wanted);
          await run(kind, { opset, attributes: { direction }, inputs: given });
          await run(kind, { opset, attributes: { direction }, inputs: given, constant: [1, 2, 3, 4] });
          await run(kind, { opset, attributes: { direction }, inputs: inputs(kind, { directions }, "") });
        });
      }
    }
    test("clip", async () => {
      const attributes = { clip: { float: 0.3 } };
      await run(kind, { attributes, inputs: inputs(kind, {}, "Bh") });
    });
    test("Y alone", async () => {
      await agrees({ op: kind, attributes: { hidden_size: 3 }, inputs: inputs(kind, {}, "B") });
    });
  });
}
