import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { float32, type Tensor, type Tensors, type TracedGraph } from "../../src/ir.ts";
import { type LossOptions, withLoss } from "../../src/loss.ts";
import { int64 } from "../../src/tensor.ts";
import { close, numericGradient } from "../gradient/check.ts";
import { run64 } from "../gradient/twin.ts";

/** x straight to the output, so that the loss is all there is. */
function identity(shape: readonly number[]): TracedGraph {
  const b = builderOn();
  b.output(b.emit("Identity", [b.input({ name: "x", dtype: "float32", shape })]), "output");
  return b.finish();
}

const doubled = (tensor: Tensor): Tensor => ({
  dtype: "float64",
  shape: tensor.shape,
  data: Float64Array.from(tensor.data as Float32Array),
});

/** The same graph over float64, so that central differences are exact to some ten digits. */
function inDoubles(graph: TracedGraph): TracedGraph {
  const wide = <T extends { dtype: string }>(it: T) =>
    it.dtype === "float32" ? { ...it, dtype: "float64" } : it;
  const toDouble = { kind: "int", value: 11 } as const;
  return {
    ...graph,
    inputs: graph.inputs.map(wide),
    outputs: graph.outputs.map(wide),
    statics: new Map([...graph.statics].map(([name, it]) => [name, wide(it)])),
    initializers: new Map(
      [...graph.initializers].map(([name, it]) => [name, it.dtype === "float32" ? doubled(it) : it]),
    ),
    nodes: graph.nodes.map((node) =>
      node.op === "Cast" ? { ...node, attributes: new Map([["to", toDouble]]) } : node,
    ),
  } as TracedGraph;
}

/** Sums over what counts in the whole batch, each part weighing as its row. */
type Twin = { loss: number; correct: number; parts: number };
type Draw = { batch: number; shape: number[]; x: number[]; label: Tensor; weight: number[] };

const sizes = fc.record({
  batch: fc.integer({ min: 2, max: 4 }),
  length: fc.integer({ min: 2, max: 4 }),
  width: fc.integer({ min: 1, max: 4 }),
  seed: fc.nat(10_000),
});
type Sizes = typeof sizes extends fc.Arbitrary<infer T> ? T : never;

function drawn({ batch, seed }: Sizes, shape: number[], labels: { shape: number[]; below: number }): Draw {
  const random = seededRandom(seed);
  const x = Array.from({ length: shape.reduce((a, b) => a * b) }, () => Math.fround(random.normal()));
  const weight = Array.from({ length: batch }, () => [0, 1, 0.5][random.below(3)]!);
  const values = Array.from({ length: labels.shape.reduce((a, b) => a * b) }, () =>
    random.below(4) === 0 && labels.shape.length > 1 ? -100 : random.below(labels.below),
  );
  return { batch, shape, x, weight, label: int64(values, labels.shape) };
}

const feedsOf = ({ shape, x, label, weight }: Draw): Tensors =>
  new Map<string, Tensor>([
    ["x", float32(shape, Float32Array.from(x))],
    ["label", label],
    ["row_weight", float32([weight.length], Float32Array.from(weight))],
  ]);

/** What `withLoss` says against the sums: a mean over parts, scaled up to the rows' weight. */
function agrees(draw: Draw, options: LossOptions, { loss, correct, parts }: Twin): void {
  const results = run64(withLoss(identity(draw.shape), options), feedsOf(draw));
  const total = draw.weight.reduce((a, b) => a + b, 0);
  const mean = parts === 0 ? 0 : loss / parts;
  const wanted = { loss: mean, loss_sum: mean * total, correct: 0, weight_sum: total };
  wanted.correct = parts === 0 ? 0 : (correct / parts) * total;
  for (const [name, value] of Object.entries(wanted)) {
    const got = Number(results.get(name)!.data[0]);
    expect(Math.abs(got - value), `${name}: ${got}, not ${value}`).toBeLessThan(1e-5 * Math.max(1, value));
  }
}

/** −log softmax(row)[label], and whether its largest is the label's. */
function answered(row: readonly number[], label: number): { loss: number; right: number } {
  const sum = row.reduce((all, v) => all + Math.exp(v), 0);
  const best = row.indexOf(Math.max(...row));
  return { loss: Math.log(sum) - row[label]!, right: best === label ? 1 : 0 };
}

/** Place t of each row against label t + shift, unless that is −100. */
function tokens(draw: Draw, shift: number): Twin {
  const [, length, width] = draw.shape as [number, number, number];
  const twin = { loss: 0, correct: 0, parts: 0 };
  for (const [row, weight] of draw.weight.entries()) {
    for (let t = 0; t + shift < length; t++) {
      const label = Number(draw.label.data[row * length + t + shift]);
      if (label === -100) continue;
      const at = (row * length + t) * width;
      const { loss, right } = answered(draw.x.slice(at, at + width), label);
      twin.loss += weight * loss;
      twin.correct += weight * right;
      twin.parts += weight;
    }
  }
  return twin;
}

/** Every ordered pair of different rows. */
function pairs({ batch, shape, x, label, weight }: Draw, margin: number): Twin {
  const twin = { loss: 0, correct: 0, parts: 0 };
  const width = shape[1]!;
  for (let i = 0; i < batch; i++) {
    for (let j = 0; j < batch; j++) {
      if (i === j) continue;
      const w = weight[i]! * weight[j]!;
      const off = Array.from({ length: width }, (_, k) => x[i * width + k]! - x[j * width + k]!);
      const d = Math.hypot(...off);
      const same = label.data[i] === label.data[j];
      twin.loss += w * (same ? d * d : Math.max(0, margin - d) ** 2);
      twin.correct += w * (same === d < margin / 2 ? 1 : 0);
      twin.parts += w;
    }
  }
  return twin;
}

describe("losses over parts of rows, against the sums written out", () => {
  test("softmax cross-entropy of each token", () =>
    fc.assert(
      fc.property(sizes, (at) => {
        const shape = [at.batch, at.length, at.width];
        const draw = drawn(at, shape, { shape: shape.slice(0, 2), below: at.width });
        agrees(draw, { kind: "softmax-cross-entropy" }, tokens(draw, 0));
      }),
    ));

  test("next token, one place ahead", () =>
    fc.assert(
      fc.property(sizes, (at) => {
        const shape = [at.batch, at.length, at.width];
        const draw = drawn(at, shape, { shape: shape.slice(0, 2), below: at.width });
        agrees(draw, { kind: "next-token" }, tokens(draw, 1));
      }),
    ));

  test("contrastive pairs", () =>
    fc.assert(
      fc.property(sizes, fc.constantFrom(0.5, 1, 3), (at, margin) => {
        const draw = drawn(at, [at.batch, at.width], { shape: [at.batch], below: 2 });
        agrees(draw, { kind: "contrastive-pair", margin }, pairs(draw, margin));
      }),
    ));
});

describe("gradients against central differences", () => {
  const cases: readonly [LossOptions, number[], Tensor][] = [
    [{ kind: "next-token" }, [2, 3, 4], int64([0, 3, -100, 1, 2, 0], [2, 3])],
    [{ kind: "softmax-cross-entropy" }, [2, 3, 4], int64([0, 3, -100, 1, 2, 0], [2, 3])],
    [{ kind: "contrastive-pair", margin: 2 }, [3, 2], int64([0, 1, 0], [3])],
    [{ kind: "huber", delta: 0.5 }, [3, 2], float32([3, 2], Float32Array.of(0, 1, 2, 0, -1, 0.3))],
  ];
  test.each(cases)("%o", (options, shape, label) => {
    const random = seededRandom(7);
    const size = shape.reduce((a, b) => a * b);
    const data = Float64Array.from({ length: size }, () => random.normal());
    const graph = inDoubles(withLoss(identity(shape), options));
    const rows = Array.from({ length: shape[0]! }, (_, row) => 1 - row / 4);
    const feeds = new Map<string, Tensor>([
      ["x", { dtype: "float64", shape, data }],
      ["label", label.dtype === "int64" ? label : doubled(label)],
      ["row_weight", { dtype: "float64", shape: [rows.length], data: Float64Array.from(rows) }],
    ]);
    const got = run64(differentiate(graph, { loss: "loss", wrt: ["x"] }), feeds).get("grad.x")!;
    const wanted = numericGradient(graph, feeds, "x");
    expect(wanted.some((value) => Math.abs(value) > 0.01)).toBe(true);
    close(got, wanted, { tolerance: 1e-6, what: options.kind });
  });

  test("a batch of padding alone, and a row in which no token counts, give zeros", () => {
    const graph = withLoss(identity([2, 3, 4]), { kind: "next-token" });
    const derived = differentiate(graph, { loss: "loss", wrt: ["x"] });
    const x = float32([2, 3, 4], new Float32Array(24).fill(0.5));
    const weigh = (...weights: number[]) => float32([2], Float32Array.from(weights));
    const all = int64([1, 1, 1, 1, 1, 1], [2, 3]);
    const none = int64([1, -100, -100, 1, -100, -100], [2, 3]);
    for (const [label, weight] of [
      [all, weigh(0, 0)],
      [none, weigh(1, 1)],
    ] as const) {
      const feeds = new Map([
        ["x", x],
        ["label", label],
        ["row_weight", weight],
      ]);
      const results = run64(derived, feeds);
      expect(Number(results.get("loss")!.data[0])).toBe(0);
      expect([...(results.get("grad.x")!.data as Float32Array)].every((value) => value === 0)).toBe(true);
    }
  });
});

test("a delta or margin that is none is refused by name", () => {
  expect(() => withLoss(identity([2, 2]), { kind: "huber", delta: 0 })).toThrow(/huber delta: .*above 0/);
  const margin = Number.NaN;
  expect(() => withLoss(identity([2, 2]), { kind: "contrastive-pair", margin })).toThrow(/margin: .*above 0/);
  expect(() => withLoss(identity([1, 2]), { kind: "contrastive-pair" })).toThrow(/batch ≥ 2/);
  expect(() => withLoss(identity([2, 1, 3]), { kind: "next-token" })).toThrow(/length ≥ 2/);
});
