import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { hasKernel } from "../../src/engines/tfjs/ops.ts";
import { evaluates } from "../../src/evaluate/evaluate.ts";
import { expandable, expansionOf } from "../../src/expand/rules.ts";
import { knownOperators } from "../../src/infer/infer.ts";
import { signatureOf } from "../../src/infer/signatures.ts";
import type { Node } from "../../src/ir.ts";
import { opsOn } from "../../src/ops.ts";
import { Site } from "../../src/site.ts";
import { casesOf, drawable } from "../gradient/draw/every.ts";
import { build } from "../gradient/measure.ts";
import { type Layer, wordsOf } from "./reads.ts";

/*
 * What a signature takes and nobody reads would change what a node means without a word: GroupQueryAttention
 * with causal 0 stayed causal. So each attribute is read, refused by name, or stands here; and so is each
 * input of an expansion that has drawn cases (not of the quantised ones, nor of kernels).
 */

/** Attributes that nothing reads, by `op`, `op op` or `*`, and why that is right. */
const HARMLESS: readonly (readonly [operators: string, attributes: string, reason: string])[] = [
  ["*", "stash_type softmax_precision accuracy_level", "how precisely to compute, not what"],
  ["Cast CastLike QuantizeLinear", "saturate round_mode", "of 8-bit floats, which are refused as dtypes"],
  ["Dropout", "seed", "nothing is drawn in inference, and training mode is refused"],
  ["BatchNormalization", "momentum is_test", "of running statistics, which inference does not update"],
  ["TopK", "sorted", "0 allows any order, sorted among them"],
  ["RNN GRU LSTM", "output_sequence", "whether Y is an output, which the outputs' names say too"],
  ["Attention", "rotary_embedding_dim", "of do_rotary, which is refused"],
  ["GroupQueryAttention", "qk_norm_epsilon", "of q_norm_weight and k_norm_weight, which are refused"],
  ["FusedGemm", "activation_gamma", "of Selu, which is refused as an activation"],
  ["EmbedLayerNormalization", "mask_index_type", "the type of an output whose name says if it is there"],
  ["FusedMatMul TransposeMatMul", "transA transB transBatchA transBatchB", "read, under names put together"],
];

/** As above, of `evaluate` alone. */
const REFUSED_BY_EVALUATE: ReadonlySet<string> = new Set(["activation_alpha", "activation_beta"]);

const harmless = (op: string, attribute: string) =>
  HARMLESS.some(
    ([operators, attributes]) =>
      (operators === "*" || operators.split(" ").includes(op)) && attributes.split(" ").includes(attribute),
  );

/** Where a node runs: tfjs as a kernel or else as its expansion, and constants before the run. */
function layersOf(node: Pick<Node, "domain" | "op">): readonly Layer[] {
  const has = { evaluate: evaluates(node), expand: expansionOf(node), "engines/tfjs": hasKernel(node) };
  return (["evaluate", "expand", "engines/tfjs"] as const).filter((layer) => has[layer]);
}

const operators = knownOperators().map((node) => ({
  ...{ node, layers: layersOf(node), attributes: [...signatureOf(node)!.attributes] },
}));

/** What rules read: words of `infer` and of one layer, which runs after it. */
function unread({ node, layers, attributes }: (typeof operators)[number]): readonly string[] {
  const inferred = wordsOf(node, "infer")!;
  return layers.flatMap((layer) => {
    const own = wordsOf(node, layer)!;
    const missing = attributes.filter((name) => !inferred.has(name) && !own.has(name));
    const excused = (name: string) => layer === "evaluate" && REFUSED_BY_EVALUATE.has(name);
    return missing.filter((name) => !excused(name)).map((name) => `${layer}: ${node.op}.${name}`);
  });
}

describe("an attribute that a signature takes", () => {
  test("is read wherever the operator runs, or stands among the harmless", () => {
    const found = operators.flatMap(unread);
    expect(
      found.filter((what) => !harmless(...(what.split(": ")[1]!.split(".") as [string, string]))),
    ).toEqual([]);
  });

  test("is among the harmless only where nothing reads it", () => {
    const found = new Set(operators.flatMap(unread).map((what) => what.split(": ")[1]!));
    const listed = HARMLESS.flatMap(([ops, names]) =>
      ops === "*" ? [] : ops.split(" ").flatMap((op) => names.split(" ").map((name) => `${op}.${name}`)),
    );
    const takes = (what: string) =>
      operators.some(({ node, attributes }) => attributes.some((name) => `${node.op}.${name}` === what));
    expect(listed.filter((what) => takes(what) && !found.has(what))).toEqual([]);
  });

  test("of an operator without any rule would be found", () => {
    const [gemm] = operators.filter(({ node }) => node.op === "Gemm");
    expect(unread({ ...gemm!, attributes: ["transA", "transC"] })).toContain("engines/tfjs: Gemm.transC");
  });
});

/** Inputs that the drawn cases do not make a rule read, and who reads them. */
const ELSEWHERE: ReadonlyMap<string, readonly [inputs: readonly number[], reason: string]> = new Map([
  ["Resize", [[1, 2], "the shape's rule, which resolves region and scales to sizes"]],
  ["com.microsoft::GroupQueryAttention", [[4, 5], "where keys and values have a past"]],
  ["com.microsoft::EmbedLayerNormalization", [[7], "where the mask's count is an output"]],
]);

describe("an input that a signature takes is read by the operator's expansion, or refused there", () => {
  const named = expandable().map((node) => ({
    node,
    op: node.domain === "" ? node.op : `${node.domain}::${node.op}`,
  }));

  test.each(named.filter(({ op }) => drawable().includes(op)))("$op", ({ node, op }) => {
    const read = new Set(ELSEWHERE.get(op)?.[0]);
    for (const drawn of fc.sample(casesOf(op), { numRuns: 25, seed: 1 })) {
      const { graph } = build(drawn, "float32");
      for (const written of graph.nodes.filter((it) => it.op === node.op && it.domain === node.domain)) {
        const builder = builderOn(graph);
        const known = {
          opset: graph.opset,
          static: (name: string) => builder.static(name),
          constant: (name: string) => builder.constantOf(name),
        };
        const watched = { ...written, inputs: watching(written.inputs, read) };
        expansionOf(node)!(new Site(watched, known), opsOn(builder));
      }
    }
    const { most } = signatureOf(node)!;
    const all = Array.from({ length: Number.isFinite(most) ? most : 0 }, (_, index) => index);
    expect(all.filter((index) => !read.has(index))).toEqual([]);
  });
});

/** The same names; notes each index that is asked for, be there a name or not. */
function watching(names: readonly string[], asked: Set<number>): readonly string[] {
  return new Proxy(names, {
    get(target, key, receiver) {
      if (typeof key === "string" && /^\d+$/.test(key)) asked.add(Number(key));
      return Reflect.get(target, key, receiver);
    },
  });
}
