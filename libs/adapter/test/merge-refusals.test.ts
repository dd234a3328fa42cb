import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { asFault } from "@tutti/foundation/fault";
import { encode } from "@tutti/wire/message";
import { ModelProtoSchema } from "@tutti/wire/onnx";
import { describe, expect, test } from "vitest";
import { sizeOf } from "../../graph/src/ir.ts";
import type { ExternalData } from "../../graph/src/onnx/tensor.ts";
import { type Model, read } from "../../graph/src/read.ts";
import { shared } from "../../graph/test/shared.ts";
import { type Mergeable, mergeFiles, mergeRefusals } from "../src/merge.ts";
import { offerOf, resolve } from "../src/resolve.ts";
import { type Base, base, CONV, halves, LINEAR, node, random, stored, TABLE, TIED, TWO } from "./bases.ts";

type Choice = {
  readonly change: Mergeable;
  readonly targets: readonly string[];
  readonly save: readonly string[];
};

/** Everything of a base that an adapter may change, with the spec that asks for it alone. */
function choicesOf(model: Model): readonly Choice[] {
  const { candidates, saveables } = offerOf(model);
  return [
    ...candidates.map(({ module: what, weight: tensor, uses, shared }) => {
      return { change: { what, tensor, uses, shared }, targets: [what], save: [] };
    }),
    ...saveables.map(({ name: what, initializer: tensor, uses, shared }) => {
      return { change: { what, tensor, uses, shared }, targets: [], save: [what] };
    }),
  ];
}

/** What merging an adapter of that one module or tensor throws; undefined where it merges. */
function tried(model: Model, { targets, save }: Choice, external: ExternalData): string | undefined {
  const adapter = resolve(model, { rank: 1, alpha: 1, targets, save });
  const tensors = adapter.tensors.map(({ name, shape }) => [name, new Float32Array(sizeOf(shape)).fill(1)]);
  try {
    mergeFiles(model.bytes, adapter, new Map(tensors as [string, Float32Array][]), { external });
    return undefined;
  } catch (error) {
    return asFault(error).message;
  }
}

/** How many of a base's modules and tensors merge, after each was compared with an attempt. */
function compared(bytes: Uint8Array, external: ExternalData): { merges: number; refused: readonly string[] } {
  const model = read(bytes, { externalData: external });
  const choices = choicesOf(model);
  const told = mergeRefusals(
    bytes,
    choices.map(({ change }) => change),
    { external },
  );
  const said = told.map((fault) => fault?.message);
  expect(said).toEqual(choices.map((choice) => tried(model, choice, external)));
  const refused = said.flatMap((message) => message ?? []);
  return { merges: said.length - refused.length, refused };
}

const nowhere: ExternalData = () => {
  throw new Error("no files beside this model");
};

/** Halves in int32_data, where the standard allows them and a merge does not find them. */
function halvesApart(): Uint8Array {
  const { bytes } = base(
    [node("MatMul", ["x", "w"], "y")],
    { w: halves([5, 4]) },
    { x: random([2, 5], "x") },
  );
  const { proto } = read(bytes);
  for (const tensor of proto.graph!.initializer) {
    tensor.int32Data = Array.from(new Uint16Array(new Uint8Array(tensor.rawData).buffer));
    tensor.rawData = new Uint8Array();
  }
  return encode(ModelProtoSchema, proto);
}

const converted = base(
  [
    node("Cast", ["w"], "c", { to: 1 }),
    node("MatMul", ["x", "c"], "h", {}, "/fc/MatMul"),
    node("MatMul", ["h", "c"], "y", {}, "/other/MatMul"),
  ],
  { w: halves([5, 5]) },
  { x: random([2, 5], "x") },
);

describe("what merge would refuse is what it refuses, module by module", () => {
  const plain = { ...LINEAR, ...CONV, ...TABLE, tied: TIED, two: TWO };
  test.each(Object.entries<Base>(plain))("%s: nothing", (_, { bytes }) => {
    const { merges, refused } = compared(bytes, nowhere);
    expect(refused).toEqual([]);
    expect(merges).toBeGreaterThan(0);
  });

  test("weights in Constant nodes: nothing", () => {
    expect(compared(stored(LINEAR["Gemm transB"]!, "Constant").bytes, nowhere).refused).toEqual([]);
  });

  test("halves that lie in int32_data, or that others read converted: though their type is a float", () => {
    expect(compared(halvesApart(), nowhere).refused[0]).toMatch(/weight w: .*raw or in float_data/);
    expect(compared(converted.bytes, nowhere).refused[0]).toMatch(/weight w: .*converted on the way/);
  });

  const folder = shared("conformance/quantised");
  test.skipIf(!folder).each([
    ["fp16", false],
    ["extdata", false],
    ["dyn-int8", true],
    ["qdq-int8", true],
    ["nbits4", true],
  ])("BERT in %s, weights in integers: %s", (kind, integers) => {
    const path = `${folder}/bert.${kind}.onnx`;
    const beside: ExternalData = (location) => new Uint8Array(readFileSync(join(dirname(path), location)));
    const { merges, refused } = compared(new Uint8Array(readFileSync(path)), beside);
    // Norms and biases stay floats in each.
    expect(merges).toBeGreaterThan(0);
    expect(refused.length > 0).toBe(integers);
    // UINT8, INT8, and INT32 for biases.
    for (const message of refused) expect(message).toMatch(/ONNX data type [236],/);
  });
});
