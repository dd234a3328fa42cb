import { seededRandom } from "@tutti/foundation/random";
import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import type { Graph } from "../../src/ir.ts";
import { type TransformerOptions, transformer } from "../../src/make/transformer.ts";
import { read } from "../../src/read.ts";
import { write } from "../../src/write.ts";

const SIZES = {
  layers: 2,
  width: 8,
  heads: 2,
  vocabulary: 11,
  length: 6,
  feedForward: 12,
} as const;

const make = (options: Pick<TransformerOptions, "kind" | "head">, seed = 1): Graph =>
  transformer({ ...SIZES, ...options, random: seededRandom(seed) });

/** The written model in onnxruntime, which binds batch and length by what it is fed. */
async function run(graph: Graph, feeds: Record<string, number[][]>): Promise<OrtTensor> {
  const session = await InferenceSession.create(write(graph), { intraOpNumThreads: 1 });
  const tensors = Object.entries(feeds).map(([name, rows]) => {
    const data = BigInt64Array.from(rows.flat(), BigInt);
    return [name, new OrtTensor("int64", data, [rows.length, rows[0]!.length])] as const;
  });
  const { logits } = await session.run(Object.fromEntries(tensors));
  await session.release();
  return logits!;
}

const rowsOf = ({ data, dims }: OrtTensor, rank: number): number[][] => {
  const size = dims.slice(rank).reduce((product, dimension) => product * dimension, 1);
  const values = [...(data as Float32Array)];
  return Array.from({ length: values.length / size }, (_, row) => values.slice(row * size, (row + 1) * size));
};

describe("transformer", () => {
  test("modules are named by nodes and weights alike, as an adapter asks for them", () => {
    const graph = make({ kind: "encoder", head: { classes: 3 } });
    const linear = graph.nodes.filter(({ op }) => op === "Gemm" || op === "MatMul");
    const weighted = linear.filter(({ inputs }) => graph.initializers.has(inputs[1]!));
    const modules = weighted.map(({ inputs }) => inputs[1]!.replace(/\.weight$/, ""));
    const layer = (index: number) => [
      ...["query", "key", "value", "output"].map((name) => `encoder.layer.${index}.attention.${name}`),
      ...["intermediate", "output"].map((name) => `encoder.layer.${index}.${name}`),
    ];
    expect(modules).toEqual([...layer(0), ...layer(1), "pooler", "classifier"]);
    expect(weighted[0]!.name).toBe("/encoder/layer.0/attention/query/MatMul");
  });

  test("any batch and length up to the most; one seed, one model", async () => {
    const graph = make({ kind: "encoder", head: { classes: 3 } });
    expect(make({ kind: "encoder", head: { classes: 3 } })).toEqual(graph);
    for (const [batch, length] of [
      [1, 1],
      [2, 4],
      [3, 6],
    ] as const) {
      const ids = Array.from({ length: batch }, (_, row) =>
        Array.from({ length }, (_, at) => (row + at) % 11),
      );
      const mask = ids.map((row) => row.map(() => 1));
      expect((await run(graph, { input_ids: ids, attention_mask: mask })).dims).toEqual([batch, 3]);
    }
  });

  test("padding changes no answer of an encoder", async () => {
    const graph = make({ kind: "encoder", head: { classes: 3 } });
    const alone = await run(graph, { input_ids: [[1, 2, 3]], attention_mask: [[1, 1, 1]] });
    const padded = await run(graph, { input_ids: [[1, 2, 3, 9, 5]], attention_mask: [[1, 1, 1, 0, 0]] });
    const other = await run(graph, { input_ids: [[1, 2, 3, 9, 5]], attention_mask: [[1, 1, 1, 1, 0]] });
    for (const [at, value] of [...(alone.data as Float32Array)].entries())
      expect((padded.data as Float32Array)[at]).toBeCloseTo(value, 5);
    expect(other.data).not.toEqual(padded.data);
  });

  test("a decoder's token does not see the next", async () => {
    const graph = make({ kind: "decoder", head: "tokens" });
    const first = rowsOf(await run(graph, { input_ids: [[1, 2, 3, 4]] }), 2);
    const second = rowsOf(await run(graph, { input_ids: [[1, 2, 7, 8]] }), 2);
    expect(first[0]).toHaveLength(11);
    for (const at of [0, 1])
      for (const [index, value] of first[at]!.entries()) expect(second[at]![index]).toBeCloseTo(value, 5);
    expect(second[2]).not.toEqual(first[2]);
  });

  test("each kind has each head; a decoder reads a text by its last token", async () => {
    const tokens = await run(make({ kind: "encoder", head: "tokens" }), {
      input_ids: [[1, 2]],
      attention_mask: [[1, 1]],
    });
    expect(tokens.dims).toEqual([1, 2, 11]);
    const graph = make({ kind: "decoder", head: { classes: 4 } });
    const read = await run(graph, { input_ids: [[1, 2, 3]] });
    expect(read.dims).toEqual([1, 4]);
    expect(read.data).not.toEqual((await run(graph, { input_ids: [[1, 2, 4]] })).data);
  });

  test("a file that is read back is the same graph", () => {
    const graph = make({ kind: "decoder", head: "tokens" });
    const back = read(write(graph)).graph;
    expect(back.inputs).toEqual(graph.inputs);
    expect(back.outputs).toEqual(graph.outputs);
    expect(back.nodes.map(({ name }) => name)).toEqual(graph.nodes.map(({ name }) => name));
    expect(new Set(graph.nodes.map(({ name }) => name)).size).toBe(graph.nodes.length);
  });

  test("refuses a width that the heads do not divide, and sizes of 0", () => {
    const options = { ...SIZES, kind: "encoder", head: "tokens", random: seededRandom(1) } as const;
    expect(() => transformer({ ...options, heads: 3 })).toThrow(/multiple of the 3 heads/);
    expect(() => transformer({ ...options, layers: 0 })).toThrow(/transformer: layers/);
    expect(() => transformer({ ...options, head: { classes: 0 } })).toThrow(/transformer: classes/);
  });
});
