import { seededRandom } from "@tutti/foundation/random";
import { create, encode } from "@tutti/wire/message";
import { ModelProtoSchema, TensorProto_DataLocation } from "@tutti/wire/onnx";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromBfloat16 } from "../../graph/src/half.ts";
import { sizeOf } from "../../graph/src/ir.ts";
import { read } from "../../graph/src/read.ts";
import { detach } from "../src/attach.ts";
import { merge, mergeFiles, mergeReport } from "../src/merge.ts";
import { resolve } from "../src/resolve.ts";
import type { AdapterSpec, ResolvedAdapter } from "../src/spec.ts";
import { unmerge } from "../src/unmerge.ts";
import { type Base, base, CONV, halves, LINEAR, node, random, stored, TABLE, TIED, TWO } from "./bases.ts";
import { apart } from "./golden.ts";

function drawn({ tensors }: ResolvedAdapter, size = 1): Map<string, Float32Array> {
  const dice = seededRandom("factors");
  return new Map(
    tensors.map(({ name, shape }) => [
      name,
      Float32Array.from({ length: sizeOf(shape) }, () => dice.normal() * size),
    ]),
  );
}

const spec: AdapterSpec = { rank: 2, alpha: 3, targets: ["*"] };
const weightOf = (bytes: Uint8Array, name = "fc.weight") => read(bytes).graph.initializers.get(name)!;

/** The base with float32 weights in a file beside it, one after the other with a gap before the first. */
function outside({ bytes, feeds }: Base): Base & { readonly files: Map<string, Uint8Array> } {
  const { proto } = read(bytes);
  let at = 16;
  const parts: { at: number; data: Uint8Array }[] = [];
  for (const tensor of proto.graph!.initializer) {
    parts.push({ at, data: tensor.rawData });
    const length = tensor.rawData.length;
    tensor.externalData = [
      { key: "location", value: "weights.bin" },
      { key: "offset", value: `${at}` },
      { key: "length", value: `${length}` },
    ].map((entry) => ({ $typeName: "onnx.StringStringEntryProto" as const, ...entry }));
    tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
    tensor.rawData = new Uint8Array();
    at += length;
  }
  const file = new Uint8Array(at + 5).fill(7);
  for (const part of parts) file.set(part.data, part.at);
  const files = new Map([["weights.bin", file]]);
  return { bytes: encode(ModelProtoSchema, create(ModelProtoSchema, proto)), feeds, files };
}

describe("unmerge", () => {
  test.each(Object.entries({ ...LINEAR, ...CONV, ...TABLE, float_data: stored(TWO, "float_data") }))(
    "%s: weights come back to within the bound it tells",
    (_, { bytes }) => {
      const adapter = resolve(read(bytes), spec);
      const tensors = drawn(adapter);
      const back = unmerge(merge(bytes, adapter, tensors), adapter, tensors);
      expect(back.model.length).toBe(bytes.length);
      for (const { weight } of adapter.modules) {
        const [was, is] = [weightOf(bytes, weight), weightOf(back.model, weight)];
        const numbers = (data: unknown) => Array.from(data as Float32Array);
        if (was.dtype === "float32")
          expect(apart(numbers(was.data), numbers(is.data))).toBeLessThanOrEqual(back.bound);
      }
      expect(back.bound).toBeLessThan(adapter.modules[0]!.uses[0]!.converted ? 0.02 : 1e-5);
      expect(back.exact).toBe(Buffer.compare(back.model, bytes) === 0);
    },
  );

  test("the bound holds for any sizes of weight and adapter", () => {
    fc.assert(
      fc.property(fc.integer({ min: -20, max: 20 }), fc.integer({ min: -8, max: 8 }), (small, large) => {
        const weight = random([5, 4], `${small}`);
        const data = (weight.data as Float32Array).map((value) => value * 2 ** small);
        const { bytes } = base(
          [node("MatMul", ["x", "fc.weight"], "y")],
          { "fc.weight": { ...weight, data } },
          {
            x: random([1, 5], "x"),
          },
        );
        const adapter = resolve(read(bytes), spec);
        const tensors = drawn(adapter, 2 ** large);
        const back = unmerge(merge(bytes, adapter, tensors), adapter, tensors);
        const error = apart(data, weightOf(back.model).data as Float32Array);
        expect(error).toBeLessThanOrEqual(back.bound);
      }),
    );
  });

  test("with the base it is the base, and another merged file is refused", () => {
    const { bytes } = TWO;
    const adapter = resolve(read(bytes), { ...spec, targets: ["0"], save: ["head"] });
    const tensors = drawn(adapter);
    const merged = merge(bytes, adapter, tensors);
    expect(unmerge(merged, adapter, tensors, { base: bytes })).toEqual({
      model: bytes,
      external: new Map(),
      exact: true,
      bound: 0,
    });
    expect(() => unmerge(merged, adapter, drawn(adapter, 2), { base: bytes })).toThrow(
      /merged model: expected what this adapter makes of the base/,
    );
    expect(() => unmerge(merged, adapter, tensors)).toThrow(
      /m\.head\.weight: expected the base's values.*Give/,
    );
    expect(() => unmerge(merged, adapter, tensors, { base: merged })).toThrow(/base model: expected SHA-256/);
  });

  test("copies that a merge made go, and what they were copied from is the base's", () => {
    const adapter = resolve(read(TIED.bytes), { ...spec, targets: ["head"] });
    const tensors = drawn(adapter);
    const merged = merge(TIED.bytes, adapter, tensors);
    const back = unmerge(merged, adapter, tensors);
    expect(back.exact).toBe(true);
    expect(Buffer.compare(back.model, TIED.bytes)).toBe(0);
    expect(() => unmerge(TIED.bytes, adapter, tensors)).toThrow(
      /unmerge: head: expected a file with its own copy/,
    );
    expect(() => detach(merged)).toThrow(/adapter attached/);
  });
});

describe("weights in files beside the model", () => {
  const given = outside(LINEAR["MatMul then Add"]!);
  const external = (location: string) => given.files.get(location)!;
  const options = { externalData: external };
  const adapter = resolve(read(given.bytes, options), { ...spec, save: ["fc.bias"] });
  const tensors = drawn(adapter);

  test("the merge overwrites a copy of the file and leaves the model as it is", () => {
    const before = external("weights.bin").slice();
    const merged = mergeFiles(given.bytes, adapter, tensors, { external });
    expect(Buffer.compare(merged.model, given.bytes)).toBe(0);
    expect([...merged.external.keys()]).toEqual(["weights.bin"]);
    expect(external("weights.bin")).toEqual(before);
    const inside = LINEAR["MatMul then Add"]!;
    const same = resolve(read(inside.bytes), { ...spec, save: ["fc.bias"] });
    const wanted = read(merge(inside.bytes, same, tensors)).graph.initializers;
    const got = read(merged.model, { externalData: (at) => merged.external.get(at)! }).graph.initializers;
    expect([...got]).toEqual([...wanted]);
    const after = merged.external.get("weights.bin")!;
    expect([after.length, ...after.subarray(0, 16), ...after.subarray(-5)]).toEqual([
      ...[before.length, ...new Array(21).fill(7)],
    ]);
  });

  test("taking it out restores the file beside the model to within the bound", () => {
    const weights = resolve(read(given.bytes, options), spec);
    const merged = mergeFiles(given.bytes, weights, tensors, { external });
    const back = unmerge(merged.model, weights, tensors, { external: (at) => merged.external.get(at)! });
    const read32 = (file: Uint8Array) => new Float32Array(file.slice(16, 16 + 80).buffer);
    const error = apart(read32(back.external.get("weights.bin")!), read32(external("weights.bin")));
    expect(error).toBeLessThanOrEqual(back.bound);
  });

  test("with the base they are the base's, and others are refused by name", () => {
    const merged = mergeFiles(given.bytes, adapter, tensors, { external });
    const back = (files: ReadonlyMap<string, Uint8Array>) =>
      unmerge(merged.model, adapter, tensors, {
        external: (at) => files.get(at)!,
        base: given.bytes,
        baseExternal: external,
      });
    const found = back(merged.external);
    expect(found).toMatchObject({ exact: true, bound: 0 });
    expect(Buffer.compare(found.model, given.bytes)).toBe(0);
    expect([...found.external]).toEqual([...given.files]);
    const made =
      /unmerge: merged weights\.bin: expected what this adapter makes of the base, got other bytes/;
    expect(() => back(given.files)).toThrow(made);
    const alone = { base: given.bytes, baseExternal: external };
    expect(() => unmerge(merged.model, adapter, tensors, alone)).toThrow(/merged weights\.bin: .*got none/);
  });

  test("a file that is not given, or too short, is refused by name", () => {
    expect(() => merge(given.bytes, adapter, tensors)).toThrow(
      /merge: fc, weight fc\.weight: .*got external data in weights\.bin\. Give `external`/,
    );
    expect(() =>
      mergeFiles(given.bytes, adapter, tensors, { external: (at) => external(at).subarray(0, 50) }),
    ).toThrow(/within the 50 bytes of weights\.bin, got bytes 16\.\.96/);
  });
});

describe("rounding to halves", () => {
  const half = base(
    [node("Cast", ["fc.weight"], "c", { to: 1 }), node("MatMul", ["x", "c"], "y")],
    { "fc.weight": halves([5, 4]) },
    { x: random([3, 5], "x") },
  );

  test("float16: the report's error is that of the file, at most half a step", () => {
    const adapter = resolve(read(half.bytes), spec);
    const tensors = drawn(adapter);
    const [report] = mergeReport(half.bytes, adapter, tensors);
    const [float] = mergeReport(...asFloat32(tensors));
    expect(report).toMatchObject({ what: "fc", dtype: "float16" });
    expect(report!.largestRounding).toBeGreaterThan(100 * float!.largestRounding);
    expect(report!.largestRounding).toBeLessThanOrEqual(2 ** -11 * (report!.largestChange + 4));
    expect(report!.largestChange).toBeGreaterThan(0.5);
  });

  function asFloat32(tensors: Map<string, Float32Array>) {
    const { bytes } = LINEAR["MatMul, weight right"]!;
    return [bytes, resolve(read(bytes), spec), tensors] as const;
  }

  test("bfloat16 is read, added to and rounded to the nearest, ties to even", () => {
    const bits = Uint16Array.from([0x3f80, 0x4000, 0xbf80, 0x3f81, 0x0001, 0x7f00]);
    const { proto } = read(half.bytes);
    const [tensor] = proto.graph!.initializer;
    Object.assign(tensor!, { dataType: 16, dims: [2n, 3n], rawData: new Uint8Array(bits.buffer) });
    const bytes = encode(ModelProtoSchema, proto);
    const adapter = resolve(read(bytes), { ...spec, rank: 1, alpha: 1 });
    const zero = new Map(adapter.tensors.map(({ name, shape }) => [name, new Float32Array(sizeOf(shape))]));
    expect(Buffer.compare(merge(bytes, adapter, zero), bytes)).toBe(0);
    // A step of bfloat16 at 1 is 2^-7: halves of it go to the even neighbour, more goes up.
    zero.set("fc.lora_A.weight", Float32Array.of(1, 0));
    zero.set("fc.lora_B.weight", Float32Array.of(2 ** -8, 3 * 2 ** -9, 2 ** -8 + 2 ** -20));
    const merged = read(merge(bytes, adapter, zero)).graph.initializers.get("fc.weight")!
      .data as Float32Array;
    const wanted = [0x3f80, 0x4000, 0xbf7f, 0x3f81, 0x0001, 0x7f00].map(fromBfloat16);
    expect([...merged]).toEqual(wanted);
  });
});
