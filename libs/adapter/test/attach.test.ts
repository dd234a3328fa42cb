import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import {
  type Attribute,
  type DType,
  type Node,
  sizeOf,
  type Tensor,
  type Tensors,
} from "../../graph/src/ir.ts";
import { read } from "../../graph/src/read.ts";
import { attach, attachedBase, attachedFeeds, detach, emptyFeeds } from "../src/attach.ts";
import { patched, reversed } from "../src/file/patch.ts";
import { merge } from "../src/merge.ts";
import { resolve } from "../src/resolve.ts";
import type { AdapterSpec, ResolvedAdapter } from "../src/spec.ts";
import { type Base, base, CONV, halves, LINEAR, node, random, stored, TABLE, TIED, TWO } from "./bases.ts";
import { apart, runFile } from "./golden.ts";

function drawn({ tensors }: ResolvedAdapter, seed: string): Map<string, Float32Array> {
  const dice = seededRandom(seed);
  return new Map(
    tensors.map(({ name, shape }) => [name, Float32Array.from({ length: sizeOf(shape) }, dice.normal)]),
  );
}

/** One session for all feeds: an attached model serves one adapter after another. */
async function session(bytes: Uint8Array) {
  const held = await ort.InferenceSession.create(bytes, { intraOpNumThreads: 1 });
  return async (...feeds: Tensors[]): Promise<Float32Array> => {
    const fed = feeds
      .flatMap((some) => [...some])
      .map(([name, { dtype, data, shape }]) => {
        return [name, new ort.Tensor(dtype as Exclude<DType, "string">, data as never, shape)] as const;
      });
    return (await held.run(Object.fromEntries(fed))).y!.data as Float32Array;
  };
}

const halfMatMul: Base = base(
  [
    node("Cast", ["x"], "x16", { to: 10 }),
    node("MatMul", ["x16", "fc.weight"], "y16"),
    node("Cast", ["y16"], "y", { to: 1 }),
  ],
  { "fc.weight": halves([5, 4]) },
  { x: random([2, 3, 5], "x") },
);

const ALL: Readonly<Record<string, Base>> = {
  ...LINEAR,
  ...CONV,
  ...TABLE,
  "float16 throughout": halfMatMul,
  "weights as Constant nodes": stored(TWO, "Constant"),
  "tied table and head": TIED,
};

describe("an attached file", () => {
  test.each(Object.entries(ALL))(
    "%s: empty is the base, bit for bit; any rank is the merge",
    async (name, given) => {
      const model = read(given.bytes);
      const attached = (spec: Partial<AdapterSpec>) =>
        resolve(model, { rank: 2, alpha: 3, targets: ["*"], ...spec });
      const file = attach(given.bytes, attached({}));
      const run = await session(file);
      const before = [...(await (await session(given.bytes))(given.feeds))];
      const empty = async () => [...(await run(given.feeds, emptyFeeds(attached({}))))];
      expect(await empty()).toEqual(before);
      const tolerance = name.includes("float16") ? 4e-3 : 1e-5;
      for (const [rank, alpha] of [
        [2, 3],
        [7, 1],
      ] as const) {
        const adapter = attached({ rank, alpha });
        const tensors = drawn(adapter, `${rank}`);
        const merged = (await runFile(merge(given.bytes, adapter, tensors), given.feeds)).get("y")!;
        const size = Math.max(1, ...Array.from(merged, Math.abs));
        expect(apart(await run(given.feeds, attachedFeeds(adapter, tensors)), merged) / size).toBeLessThan(
          tolerance,
        );
      }
      expect(Buffer.compare(detach(file), given.bytes)).toBe(0);
      expect(attachedBase(file)).toBe(attached({}).baseSha256);
    },
  );

  test("ranks may differ by module, in the file and between adapters", async () => {
    const model = read(TWO.bytes);
    const spec: AdapterSpec = { rank: 2, alpha: 3, targets: ["*"] };
    const file = attach(TWO.bytes, resolve(model, spec));
    const other = resolve(model, { ...spec, rankPattern: { head: 3 }, alphaPattern: { "0": 9 } });
    const tensors = drawn(other, "other");
    const got = await (await session(file))(TWO.feeds, attachedFeeds(other, tensors));
    const merged = (await runFile(merge(TWO.bytes, other, tensors), TWO.feeds)).get("y")!;
    expect(apart(got, merged) / Math.max(...merged.map(Math.abs))).toBeLessThan(1e-5);
  });

  test("saved tensors are inputs under a name of their own", async () => {
    const model = read(TWO.bytes);
    const adapter = resolve(model, { rank: 2, alpha: 3, targets: ["0"], save: ["head", "norm.bias"] });
    const file = attach(TWO.bytes, adapter);
    expect(read(file).graph.inputs.map(({ name, shape }) => `${name} [${shape}]`)).toEqual([
      "x [3,5]",
      "m.0.lora_A.weight [r_0,5]",
      "m.0.lora_B.weight [4,r_0]",
      "m.norm.bias.saved [4]",
      "m.head.weight.saved [4,4]",
      "m.head.bias.saved [4]",
    ]);
    const run = await session(file);
    const tensors = drawn(adapter, "saved");
    const merged = (await runFile(merge(TWO.bytes, adapter, tensors), TWO.feeds)).get("y")!;
    expect(apart(await run(TWO.feeds, attachedFeeds(adapter, tensors)), merged)).toBeLessThan(1e-4);
    expect([...(await run(TWO.feeds, emptyFeeds(adapter, model)))]).toEqual([
      ...(await (await session(TWO.bytes))(TWO.feeds)),
    ]);
    expect(() => emptyFeeds(adapter)).toThrow(/empty feeds: m\.norm\.bias: expected the base's values/);
  });

  test("every tensor and node of the base keeps its bytes, but for the name a sum takes over", () => {
    const { proto: before } = read(TWO.bytes);
    const file = attach(TWO.bytes, resolve(read(TWO.bytes), { rank: 2, alpha: 3, targets: ["*"] }));
    const { proto: after } = read(file);
    expect(after.graph!.initializer).toEqual(before.graph!.initializer);
    const own = after.graph!.node.filter(({ name }) => !name.startsWith("tutti.side_"));
    const named = own.map((proto, at) => ({ ...proto, output: before.graph!.node[at]!.output }));
    expect(named).toEqual(before.graph!.node);
    expect(own.map(({ output }) => output[0])).toEqual(["tutti.side_0", "n", "tutti.side_6", "y"]);
  });

  test("a graph inside a node that reads a target's output reads the sum", async () => {
    const body = (op: string): Attribute => {
      const inner = node(op, ["h"], "z");
      const outputs = [{ name: "z", dtype: "float32" as const, shape: null }];
      const value = { name: op, opset: 17, inputs: [], outputs, initializers: new Map(), nodes: [inner] };
      return { kind: "graph", value };
    };
    const branch: Node = {
      ...node("If", ["cond"], "y"),
      attributes: new Map([
        ["then_branch", body("Neg")],
        ["else_branch", body("Abs")],
      ]),
    };
    const cond: Tensor = { dtype: "bool", shape: [], data: Uint8Array.of(1) };
    const given = base(
      [node("MatMul", ["x", "fc.weight"], "h"), branch],
      { "fc.weight": [5, 4] },
      { x: random([3, 5], "x"), cond },
    );
    const adapter = resolve(read(given.bytes), { rank: 2, alpha: 3, targets: ["fc"] });
    const tensors = drawn(adapter, "if");
    const run = await session(attach(given.bytes, adapter));
    const merged = (await runFile(merge(given.bytes, adapter, tensors), given.feeds)).get("y")!;
    expect(apart(await run(given.feeds, attachedFeeds(adapter, tensors)), merged)).toBeLessThan(1e-5);
  });
});

describe("refusals", () => {
  const given = LINEAR["Gemm plain"]!;
  const adapter = resolve(read(given.bytes), { rank: 2, alpha: 3, targets: ["fc"] });

  test("another base is refused by hash", () => {
    expect(() => attach(LINEAR["Gemm transB"]!.bytes, adapter)).toThrow(
      /attach: base model: expected SHA-256/,
    );
  });

  test("a base that has a value of a factor's name is refused", () => {
    const { bytes } = base(
      [node("MatMul", ["x", "fc.weight"], "fc.lora_A.weight"), node("Tanh", ["fc.lora_A.weight"], "y")],
      { "fc.weight": [5, 4] },
      { x: random([3, 5], "x") },
    );
    const clash = resolve(read(bytes), { rank: 1, alpha: 1, targets: ["fc"] });
    expect(() => attach(bytes, clash)).toThrow(/fc\.lora_A\.weight: expected a name the base does not have/);
  });

  test("detach refuses a file with nothing attached, and one that was changed since", () => {
    expect(() => detach(given.bytes)).toThrow(/detach: expected a model with an adapter attached/);
    const file = attach(given.bytes, adapter);
    const weight = read(given.bytes).graph.initializers.get("fc.weight")!.data as Float32Array;
    const at = Buffer.from(file).indexOf(new Uint8Array(weight.slice().buffer));
    const changed = file.slice();
    changed[at]! ^= 1;
    expect(() => detach(changed)).toThrow(/base in the file: expected SHA-256/);
    expect(() => detach(file.subarray(0, file.length - 1))).toThrow(/premature end|whole field/);
  });

  test("a record that does not fit its file is refused", () => {
    const file = attach(given.bytes, adapter);
    const text = new TextDecoder("latin1").decode(file);
    for (const [from, to] of [
      ['"undo":[[', '"undo":[[9'],
      ['"attached"', '"detached"'],
      ['"undo":[', '"undo":{'],
    ] as const) {
      const bad = text.replace(from, to);
      const bytes = Uint8Array.from(bad, (char) => char.charCodeAt(0));
      if (bytes.length === file.length) expect(() => detach(bytes)).toThrow(/metadata tutti\.undo|detach/);
      else expect(() => detach(bytes)).toThrow();
    }
  });
});

test("reversed edits give the bytes back, whatever they were", () => {
  const edits = fc.array(
    fc.record({ gap: fc.nat(5), length: fc.nat(5), bytes: fc.uint8Array({ maxLength: 9 }) }),
    { maxLength: 8 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 80, maxLength: 120 }), edits, (bytes, wanted) => {
      let at = 0;
      const placed = wanted.map(({ gap, length, bytes: put }) => {
        const start = at + gap;
        at = start + length;
        return { start, end: at, bytes: put };
      });
      const after = patched(bytes, placed.toReversed());
      expect(patched(after, reversed(bytes, placed))).toEqual(bytes);
    }),
  );
});

test("onnxruntime checks that A and B of a module have one rank", async () => {
  const given = LINEAR["Gemm plain"]!;
  const adapter = resolve(read(given.bytes), { rank: 2, alpha: 3, targets: ["fc"] });
  const run = await session(attach(given.bytes, adapter));
  const feeds = new Map<string, Tensor>(attachedFeeds(adapter, drawn(adapter, "x")));
  feeds.set("fc.lora_B.weight", random([4, 3], "b"));
  await expect(run(given.feeds, feeds)).rejects.toThrow();
});
