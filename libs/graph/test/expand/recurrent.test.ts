import { readFileSync } from "node:fs";
import { seededRandom } from "@tutti/foundation/random";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { expanded } from "../../src/expand/expand.ts";
import { type Static, sizeOf, type Tensor, type Tensors, type TracedGraph } from "../../src/ir.ts";
import { promote } from "../../src/promote.ts";
import { read } from "../../src/read.ts";
import { tensorOf } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";
import { checkGradient, type Input } from "../gradient/check.ts";
import { run64 } from "../gradient/twin.ts";
import { shared } from "../shared.ts";
import { agrees, type Case, expectClose, f32, i32, onTfjs, reference, tf } from "../tfjs/harness.ts";

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

describe("layout 1 (batch first), which onnxruntime lacks: as layout 0 with axes moved", () => {
  for (const kind of KINDS) {
    test(kind, async () => {
      const given = inputs(kind, { directions: 2, steps: 3, batch: 2 }, "BLhc");
      const moved = given.map((x, i) => (x && [0, 5, 6].includes(i) ? swapFront(x) : x));
      const attributes = { hidden_size: 3, direction: "bidirectional" };
      const base: Case = { op: kind, opset: 14, outputs: outputs(kind), attributes, inputs: given };
      const wanted = await reference(base);
      const statics = new Map(
        [...wanted].map(([name, y]) => [name, name === "y0" ? toFront(y) : swapFront(y)]),
      );
      const first = { ...base, inputs: moved, attributes: { ...attributes, layout: 1 } };
      const got = await onTfjs("wasm", first, statics);
      for (const [name, tensor] of statics) expectClose(got.get(name)!, tensor, name, 1e-5);
    });
  }
});

/** The first two axes exchanged. */
function swapFront(x: Tensor): Tensor {
  const [a, b, c] = x.shape as [number, number, number];
  const data = x.data as Float32Array;
  return f32(
    [b, a, c],
    Array.from(
      data,
      (_, at) => data[((Math.floor(at / c) % a) * b + Math.floor(at / c / a)) * c + (at % c)]!,
    ),
  );
}

/** Y of `[steps, directions, batch, hidden]` as `[batch, steps, directions, hidden]`. */
function toFront(y: Tensor): Tensor {
  const [steps, directions, batch, hidden] = y.shape as [number, number, number, number];
  const flat = { ...y, shape: [steps * directions, batch, hidden] };
  return { ...swapFront(flat), shape: [batch, steps, directions, hidden] };
}

describe("activations", () => {
  const ALL = ["Affine", "Relu", "LeakyRelu", "ThresholdedRelu", "Tanh", "ScaledTanh"];
  const more = ["Sigmoid", "HardSigmoid", "Elu", "Softsign", "Softplus"];
  for (const name of [...ALL, ...more]) {
    test(`RNN with ${name}, α and β given`, async () => {
      const attributes = {
        activations: { strings: [name] },
        activation_alpha: { floats: [0.3] },
        activation_beta: { floats: [0.6] },
      };
      await run("RNN", { attributes, inputs: inputs("RNN", {}, "B") });
    });
  }
  test("GRU and LSTM with their own by direction, α taken in turn", async () => {
    const gru = { strings: ["HardSigmoid", "LeakyRelu", "Sigmoid", "Elu"] };
    const attributes = { direction: "bidirectional", activation_alpha: { floats: [0.3, 0.2, 0.7] } };
    const beta = { activation_beta: { floats: [0.4] } };
    await run("GRU", {
      attributes: { ...attributes, ...beta, activations: gru },
      inputs: inputs("GRU", { directions: 2 }, "B"),
    });
    const lstm = { strings: ["Sigmoid", "Relu", "Softsign", "Sigmoid", "Tanh", "Softplus"] };
    await run("LSTM", {
      attributes: { direction: "bidirectional", activations: lstm },
      inputs: inputs("LSTM", { directions: 2 }, "B"),
    });
  });
});

test("GRU with linear_before_reset, forward and reverse", async () => {
  for (const direction of ["forward", "reverse", "bidirectional"]) {
    const given = inputs("GRU", { directions: direction === "bidirectional" ? 2 : 1 }, "BLh");
    const attributes = { direction, linear_before_reset: 1 };
    await run("GRU", { attributes, inputs: given });
    await run("GRU", {
      attributes: { ...attributes, clip: { float: 0.4 } },
      inputs: given,
      constant: [1, 2, 4],
    });
  }
});

test("LSTM with input_forget", async () => {
  await run("LSTM", { attributes: { input_forget: 1 }, inputs: inputs("LSTM", {}, "Bhc") });
});

describe("gradients of X, W, R, B, first states and peepholes", () => {
  const shapes = (kind: Kind, directions: number, wanted: string): Input[] =>
    inputs(kind, { width: 2, hidden: 2, directions }, wanted).map((x, i) =>
      x === undefined ? undefined : i === 4 ? { tensor: x } : { shape: x.shape },
    );
  const variants: readonly [Kind, Record<string, number>][] = [
    ["RNN", {}],
    ["GRU", {}],
    ["GRU", { linear_before_reset: 1 }],
    ["LSTM", {}],
    ["RNN", { clip: 0.6 }],
    ["GRU", { clip: 0.6 }],
    ["LSTM", { clip: 0.6, input_forget: 1 }],
  ];
  for (const [kind, rest] of variants) {
    for (const direction of ["forward", "bidirectional"]) {
      test(`${kind} ${direction} ${JSON.stringify(rest)}`, async () => {
        const directions = direction === "forward" ? 1 : 2;
        const { clip, ...flags } = rest;
        const bound = clip === undefined ? {} : { clip: { float: clip } };
        const attributes = { hidden_size: 2, direction, ...flags, ...bound };
        const wanted = kind === "LSTM" ? "BLhcP" : "BLh";
        const given = shapes(kind, directions, wanted);
        await checkGradient({ op: kind, attributes, outputs: outputs(kind), inputs: given, range: [-1, 1] });
      });
    }
  }
});

test("a step of GRU with frozen weights is 12 nodes, of LSTM 11", () => {
  for (const [kind, perStep] of [
    ["GRU", 12],
    ["LSTM", 11],
  ] as const) {
    const nodesOf = (steps: number) => {
      const b = builderOn(undefined, 17);
      const [x, ...weights] = inputs(kind, { steps }, "B");
      const names = [b.input({ name: "x", dtype: "float32", shape: x!.shape })];
      for (const w of weights) names.push(w ? b.constant(w) : "");
      const attributes = { hidden_size: 3, ...(kind === "GRU" ? { linear_before_reset: 1 } : {}) };
      b.output(b.emitMany(kind, names, { outputs: 1, attributes })[0]!);
      return expanded(b.finish(), { wanted: () => true }).nodes.length;
    };
    expect(nodesOf(9) - nodesOf(8), kind).toBe(perStep);
  }
});

test("a sequence too long to unroll is refused", async () => {
  const given = inputs("RNN", { steps: 10_001, batch: 1, width: 1, hidden: 1 }, "");
  const statics = new Map([["y0", f32([10_001, 1, 1, 1], new Float32Array(10_001))]]);
  await expect(onTfjs("cpu", { op: "RNN", inputs: given }, statics)).rejects.toThrow(
    /RNN.*time steps.*10001/,
  );
});

test("an activation we do not know, and too few names, are refused by name", async () => {
  const refused = (strings: readonly string[]) => {
    const given = inputs("GRU", {}, "");
    const statics = new Map([["y0", f32([3, 1, 2, 3], new Float32Array(18))]]);
    return onTfjs("cpu", { op: "GRU", attributes: { activations: { strings } }, inputs: given }, statics);
  };
  await expect(refused(["Sigmoid", "Sinus"])).rejects.toThrow(/GRU.*attribute activations.*Sinus/);
  await expect(refused(["Sigmoid"])).rejects.toThrow(/GRU.*attribute activations.*2 names/);
});

describe("exported GRU models", () => {
  for (const kind of ["legacy", "dynamo"]) {
    test(`${kind}: as onnxruntime has the file; gradients by differences`, async () => {
      const path = shared(`conformance/exports/gru.${kind}.onnx`);
      if (path === undefined) return;
      const bytes = readFileSync(path);
      const graph = trace(read(bytes).graph, { symbols: { batch: 3 } });
      const feeds = new Map(graph.inputs.map(({ name }) => [name, feedOf(graph.statics.get(name)!)]));
      const wanted = await runFile(bytes, feeds);
      await tf.setBackend("wasm");
      const program = await tfjsEngine(tf, "wasm").load(graph);
      const got = await program.step(feeds);
      await program.dispose();
      for (const [name, tensor] of wanted) expectClose(got.get(name)!, tensor, name, 1e-5);
      await gradientsAgree(graph, feeds);
    });
  }
});

function feedOf({ dtype, shape }: Static): Tensor {
  const whole = dtype === "int64" || dtype === "int32";
  const values = Array.from({ length: sizeOf(shape) }, (_, i) => (whole ? (i * 7 + 3) % 60 : Math.sin(i)));
  return tensorOf(dtype, shape, values);
}

/** What onnxruntime makes of the untouched file. */
async function runFile(bytes: Uint8Array, feeds: Tensors): Promise<Tensors> {
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 4, intraOpNumThreads: 1 });
  const inputs = [...feeds].map(([name, { dtype, shape, data }]) => {
    return [name, new ort.Tensor(dtype as "float32", data as Float32Array, [...shape])] as const;
  });
  const results = await session.run(Object.fromEntries(inputs));
  await session.release();
  return new Map(
    Object.entries(results).map(([name, { dims, data }]) => [name, f32([...dims], data as Float32Array)]),
  );
}

/**
 * Σ of the first output, by every weight the GRU nodes read: a few elements of each, as tfjs derives them.
 */
async function gradientsAgree(graph: TracedGraph, feeds: Tensors): Promise<void> {
  const read = graph.nodes.filter(({ op }) => op === "GRU").flatMap(({ inputs }) => inputs.slice(1, 4));
  const weights = [...new Set(read)].filter((name) => graph.initializers.has(name));
  expect(weights.length).toBeGreaterThan(2);
  const held = new Map([...feeds, ...weights.map((name) => [name, graph.initializers.get(name)!] as const)]);
  const b = builderOn(promote(graph, weights));
  const first = graph.outputs[0]!.name;
  const axes = b.shape(first).map((_, axis) => axis);
  const squared = b.emit("Mul", [first, first]);
  b.output(b.emit("ReduceSum", [squared], { axes, keepdims: 0 }), "loss");
  const forward = b.finish();
  const program = await tfjsEngine(tf, "wasm").load(differentiate(forward, { loss: "loss", wrt: weights }));
  const got = await program.step(held);
  await program.dispose();
  for (const name of weights) {
    const tensor = held.get(name)!;
    for (const at of [0, Math.floor(tensor.data.length / 2), tensor.data.length - 1]) {
      const lossAt = (by: number) => {
        const data = Float64Array.from(tensor.data as Float32Array);
        data[at]! += by;
        return Number(run64(forward, new Map([...held, [name, { ...tensor, data }]])).get("loss")!.data[0]);
      };
      const exact = (lossAt(1e-3) - lossAt(-1e-3)) / 2e-3;
      const derived = Number(got.get(`grad.${name}`)!.data[at]);
      expect(Math.abs(derived - exact), `${name}[${at}]: ${derived}, ${exact}`).toBeLessThan(
        2e-3 * Math.max(1, Math.abs(exact)),
      );
    }
  }
}
