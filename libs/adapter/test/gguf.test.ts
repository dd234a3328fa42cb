import { readFileSync } from "node:fs";
import { concat, u32, utf8 } from "@tutti/foundation/bytes";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { shared } from "../../graph/test/shared.ts";
import { type GgufFile, type GgufTensor, type GgufValue, readGguf, writeGguf } from "../src/formats/gguf.ts";
import { fromGguf, toGguf } from "../src/formats/gguf-lora.ts";
import { ARCHITECTURES, ggufName, torchName } from "../src/formats/gguf-names.ts";
import type { PeftAdapter } from "../src/formats/peft-adapter.ts";
import { type Drawn, expectSameDeltas, moduleOf, survives } from "./files.ts";

const u64 = (value: number) => concat(u32(value % 2 ** 32), u32(Math.floor(value / 2 ** 32)));
const text = (value: string) => concat(u64(utf8(value).length), utf8(value));

/** A file with any tail behind the counts. */
const file = (tensors: number, keys: number, ...parts: readonly Uint8Array[]) =>
  concat(utf8("GGUF"), u32(3), u64(tensors), u64(keys), ...parts);

const info = (name: string, sizes: readonly number[], { type = 0, offset = 0 } = {}) =>
  concat(text(name), u32(sizes.length), ...sizes.map(u64), u32(type), u64(offset));

const CASE = "conformance/formats/tiny-lora-qwen2";
const [golden, expected] = [shared(`${CASE}.gguf`), shared(`${CASE}.json`)];

describe.skipIf(!golden || !expected)("llama.cpp's own file", () => {
  const bytes = golden ? new Uint8Array(readFileSync(golden)) : new Uint8Array();
  type Facts = { alpha: number; tensors: Record<string, { shape: number[]; sum: number; first: number[] }> };
  const facts = expected ? (JSON.parse(readFileSync(expected, "utf8")) as Facts) : { alpha: 0, tensors: {} };

  test("holds the tensors it is said to hold", () => {
    const { tensors, metadata } = readGguf(bytes);
    expect([...tensors.keys()].sort()).toEqual(Object.keys(facts.tensors).sort());
    expect(metadata.get("adapter.lora.alpha")).toEqual({ type: "float32", value: facts.alpha });
    for (const [name, { shape, sum, first }] of Object.entries(facts.tensors)) {
      const tensor = tensors.get(name)!;
      const data = new Float32Array(new Uint8Array(tensor.bytes).buffer);
      expect(tensor.shape).toEqual(shape);
      expect([...data.subarray(0, first.length)]).toEqual(first.map(Math.fround));
      expect(data.reduce((total, value) => total + value, 0)).toBeCloseTo(sum, 3);
    }
  });

  test("is an adapter under Hugging Face's names, scale alpha/r", () => {
    const { modules } = fromGguf(bytes);
    expect(modules.map(({ name }) => name)).toContain("model.layers.1.mlp.down_proj");
    expect(modules).toHaveLength(6);
    for (const { rank, alpha, scale } of modules) expect([rank, alpha, scale]).toEqual([4, 16, 4]);
  });

  test("is written back byte for byte", () => {
    expect(writeGguf(readGguf(bytes))).toEqual(bytes);
    expect(toGguf(fromGguf(bytes), { arch: "qwen2", name: "tiny" })).toEqual(bytes);
  });

  test("changed anywhere, it is read or refused", () => {
    survives(bytes, readGguf, ({ tensors }: GgufFile) => heldBy(tensors.values()));
    survives(bytes.slice(0, 1400), readGguf);
    survives(bytes, (changed) => fromGguf(changed));
  });
});

const heldBy = (tensors: Iterable<GgufTensor>) =>
  [...tensors].reduce((sum, { bytes }) => sum + bytes.length, 0);

describe("the container", () => {
  const metadata = new Map<string, GgufValue>([
    ["general.alignment", { type: "uint32", value: 64 }],
    ["a", { type: "uint8", value: 255 }],
    ["b", { type: "int16", value: -3 }],
    ["c", { type: "uint64", value: 2n ** 63n }],
    ["d", { type: "int64", value: -1n }],
    ["e", { type: "float64", value: 0.1 }],
    ["f", { type: "bool", value: true }],
    ["g", { type: "string", value: "ä" }],
    ["h", { type: "array", of: "string", count: 2, bytes: concat(text("x"), text("")) }],
    ["i", { type: "array", of: "int32", count: 3, bytes: new Uint8Array(12) }],
  ]);
  const tensors = new Map<string, GgufTensor>([
    ["t", { dtype: "F16", shape: [1, 3], bytes: Uint8Array.of(1, 2, 3, 4, 5, 6) }],
    ["s", { dtype: "BF16", shape: [2], bytes: Uint8Array.of(7, 8, 9, 10) }],
  ]);

  test("every value type goes and comes, data begins at the alignment", () => {
    const bytes = writeGguf({ metadata, tensors });
    expect(readGguf(bytes)).toEqual({ metadata, tensors });
    expect(readGguf(bytes).tensors.get("s")!.bytes.byteOffset % 64).toBe(0);
    expect(bytes.length % 64).toBe(0);
  });

  test("changed anywhere, it is read or refused", () => {
    survives(writeGguf({ metadata, tensors }), readGguf);
  });

  const two = concat(info("t", [2]), info("t", [2], { offset: 32 }));
  test.each([
    ["no GGUF", utf8("GGML\0\0\0\x03"), /the letters "GGUF"/],
    ["version 2", concat(utf8("GGUF"), u32(2), u64(0), u64(0)), /version: expected 3, .* got 2/],
    ["big-endian", concat(utf8("GGUF"), u32(0x03000000)), /little-endian, got 50331648/],
    ["too many tensors", file(2 ** 40, 0), /number of tensors: expected at most 65536/],
    ["too many keys", file(0, 5000), /number of keys: expected at most 4096/],
    ["more keys than bytes", file(0, 9), /length of key: expected 8 bytes, got 0 left/],
    ["a key longer than the file", file(0, 1, u64(2 ** 50)), /length of key: expected at most/],
    ["an unknown value type", file(0, 1, text("k"), u32(13)), /value type of k: .* got 13/],
    ["an array of arrays", file(0, 1, text("k"), u32(9), u32(9), u64(1)), /value type of k: .* got 9/],
    ["an array beyond the file", file(0, 1, text("k"), u32(9), u32(12), u64(2 ** 52)), /k: expected .* left/],
    ["a bool of 2", file(0, 1, text("k"), u32(7), Uint8Array.of(2)), /k: expected 0 or 1, got 2/],
    ["a key twice", file(0, 2, ...[1, 2].flatMap(() => [text("k"), u32(4), u32(1)])), /two of k/],
    [
      "an odd alignment",
      file(0, 1, text("general.alignment"), u32(4), u32(24)),
      /alignment: expected a power of two/,
    ],
    ["a name of 64 bytes", file(1, 0, info("n".repeat(64), [1])), /tensor name: expected at most 63/],
    ["no dimensions", file(1, 0, info("t", [])), /1 to 4 dimensions, got 0/],
    ["five dimensions", file(1, 0, info("t", [1, 1, 1, 1, 1])), /1 to 4 dimensions, got 5/],
    ["a size of zero", file(1, 0, info("t", [0])), /sizes above 0/],
    ["a product beyond 2^53", file(1, 0, info("t", [2 ** 40, 2 ** 40])), /t: expected .* bytes of F32/],
    ["a quantised tensor", file(1, 0, info("t", [32], { type: 8 })), /t: type: .* got ggml type 8/],
    ["an overlap", file(2, 0, two, new Uint8Array(64)), /t: expected data at .*|two of t/],
    ["a hole", file(1, 0, info("t", [2], { offset: 32 }), new Uint8Array(128)), /data at 0, got at 32/],
    ["data too short", file(1, 0, info("t", [9]), new Uint8Array(32)), /t: expected 36 bytes/],
    ["bytes after the end", file(1, 0, info("t", [2]), new Uint8Array(200)), /data: expected/],
  ])("%s is refused by name", (_, bytes, message) => {
    expect(() => readGguf(bytes)).toThrow(message);
  });
});

describe("names", () => {
  test.each(ARCHITECTURES)("%s: every name has its twin, under any wrapper", (arch) => {
    const weights =
      arch === "gpt2"
        ? ["token_embd", "blk.11.attn_qkv", "blk.0.ffn_down", "output"]
        : ["token_embd", "blk.3.attn_q", "blk.10.attn_output", "blk.0.ffn_up"];
    for (const weight of weights) {
      const name = torchName(arch, weight);
      for (const wrapped of [name, `m.${name}`, `base.inner.${name}`]) {
        expect(ggufName(arch, wrapped)).toBe(weight);
      }
    }
  });

  test("modules are called as llama.cpp's converters call them", () => {
    expect(ggufName("qwen2", "model.layers.7.mlp.down_proj")).toBe("blk.7.ffn_down");
    expect(ggufName("gpt2", "h.2.attn.c_proj")).toBe("blk.2.attn_output");
    expect(ggufName("bert", "bert.encoder.layer.1.output.dense")).toBe("blk.1.ffn_down");
    expect(ggufName("bert", "encoder.layer.1.attention.output.dense")).toBe("blk.1.attn_output");
  });

  test("unknown ones are refused by name", () => {
    expect(() => ggufName("llama", "model.layers.0.router")).toThrow(/GGUF name of model\.layers\.0\.router/);
    expect(() => ggufName("gemma", "lm_head")).toThrow(/lm_head/);
    expect(() => ggufName("llama", "model.layers.x.self_attn.q_proj")).toThrow(/x\.self_attn/);
    expect(() => torchName("llama", "blk.0.attn_qkv")).toThrow(/blk\.0\.attn_qkv/);
    expect(() => torchName("llama", "blk.0.1.attn_q")).toThrow(/blk\.0\.1/);
  });
});

/** Linear modules of llama's, [out, in] divisible into heads, and its table. */
const drawn = fc
  .record({
    rank: fc.integer({ min: 1, max: 5 }),
    alpha: fc.integer({ min: 1, max: 32 }),
    rslora: fc.boolean(),
    parts: fc.subarray(["q_proj", "k_proj", "v_proj", "o_proj", "embed_tokens"], { minLength: 1 }),
  })
  .map(({ parts, ...size }) =>
    parts.map((part): Drawn => {
      if (part === "embed_tokens")
        return { name: "model.embed_tokens", kind: "embedding", in: 11, out: 12, ...size };
      const name = `model.layers.3.self_attn.${part}`;
      return { name, kind: "linear", in: 12, out: part === "k_proj" ? 8 : 16, ...size };
    }),
  );

describe("adapters", () => {
  test.each(["llama", "qwen2", "gemma"] as const)("%s: there and back is exact", (arch) => {
    fc.assert(
      fc.property(drawn, (modules) => {
        const peft = { modules: modules.map((module) => moduleOf({ ...module, rslora: false })), whole: [] };
        const bytes = toGguf(peft, { arch, heads: 4, kvHeads: 2 });
        expect(fromGguf(bytes)).toEqual(peft);
        expect(toGguf(fromGguf(bytes), { arch, heads: 4, kvHeads: 2 })).toEqual(bytes);
      }),
      { numRuns: 50 },
    );
  });

  test("modules of several scales keep their products under the one alpha", () => {
    fc.assert(
      fc.property(drawn, fc.integer({ min: 1, max: 9 }), (modules, alpha) => {
        const peft = {
          modules: modules.map((module, i) => moduleOf(i === 0 ? { ...module, alpha } : module)),
          whole: [],
        };
        expectSameDeltas(fromGguf(toGguf(peft, { arch: "llama", heads: 4, kvHeads: 2 })), peft);
      }),
      { numRuns: 50 },
    );
  });

  const [q, table] = [
    moduleOf({ name: "model.layers.0.self_attn.q_proj", kind: "linear", in: 3, out: 12, ...one() }),
    moduleOf({ name: "model.embed_tokens", kind: "embedding", in: 5, out: 3, ...one() }),
  ];
  const peft: PeftAdapter = { modules: [q, table], whole: [] };
  const rows = (arch: "llama" | "qwen2") =>
    floats(readGguf(toGguf(peft, { arch, heads: 2 })).tensors.get("blk.0.attn_q.weight.lora_b")!);

  test("llama.cpp pairs neighbours where Hugging Face pairs halves of a head", () => {
    // Two heads of six rows: rows 0 1 2 | 3 4 5 of each become 0 3 1 4 2 5 (LlamaModel.permute).
    const order = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11];
    expect([...rows("llama")]).toEqual(order.map((row) => q.b.data[row]));
    expect(rows("qwen2")).toEqual(q.b.data);
  });

  test("a table's A lies as [vocabulary, r]", () => {
    const tensors = readGguf(toGguf(peft, { arch: "qwen2" })).tensors;
    expect(tensors.get("token_embd.weight.lora_a")!.shape).toEqual([5, 1]);
    expect(tensors.get("token_embd.weight.lora_b")!.shape).toEqual([3, 1]);
  });

  test("float16 rounds, and refuses what it cannot hold", () => {
    const halves = fromGguf(toGguf(peft, { arch: "qwen2", dtype: "F16" }));
    expect(halves.modules[0]!.a.dtype).toBe("F16");
    halves.modules[0]!.a.data.forEach((value, i) => {
      expect(Math.abs(value - q.a.data[i]!)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -11 + 2 ** -25);
    });
    const large = { ...q, a: { ...q.a, data: q.a.data.map(() => 65_520) } };
    expect(() => toGguf({ modules: [large], whole: [] }, { arch: "qwen2", dtype: "F16" })).toThrow(/65504/);
  });

  test("what llama.cpp has no place for is refused by name", () => {
    const whole = { ...q.a, name: "score.weight" };
    expect(() => toGguf({ modules: [], whole: [whole] }, { arch: "qwen2" })).toThrow(/score\.weight/);
    expect(() => toGguf(peft, { arch: "llama" })).toThrow(/blk\.0\.attn_q: expected the base's number/);
    expect(() => toGguf(peft, { arch: "llama", heads: 5 })).toThrow(/q_proj: expected rows that 5 heads/);
    const twice = { modules: [q, { ...q, name: `other.${q.name}` }], whole: [] };
    expect(() => toGguf(twice, { arch: "qwen2" })).toThrow(/expected one module, got blk\.0\.attn_q/);
    const linear = { modules: [{ ...table, kind: "linear" as const }], whole: [] };
    expect(() => toGguf(linear, { arch: "qwen2" })).toThrow(/model\.embed_tokens/);
  });

  test("another kind of file, or an odd tensor, is refused by name", () => {
    const good = readGguf(toGguf(peft, { arch: "qwen2" }));
    const changed = (key: string, value: GgufValue) =>
      writeGguf({ ...good, metadata: new Map(good.metadata).set(key, value) });
    expect(() => fromGguf(changed("general.type", { type: "string", value: "model" }))).toThrow(/got model/);
    expect(() => fromGguf(changed("adapter.type", { type: "string", value: "ia3" }))).toThrow(/got ia3/);
    expect(() => fromGguf(changed("general.architecture", { type: "string", value: "rwkv" }))).toThrow(
      /rwkv/,
    );
    expect(() => fromGguf(changed("adapter.lora.alpha", { type: "string", value: "x" }))).toThrow(/alpha/);
    const [a] = good.tensors.values();
    for (const name of [
      "blk.0.attn_norm.weight",
      "blk.0.attn_q.weight.lora_c",
      "blk.0.attn_q.weight.lora_a",
    ]) {
      const tensors = new Map([[name, a!]]);
      expect(() => fromGguf(writeGguf({ ...good, tensors })), name).toThrow(/attn_/);
    }
  });

  test("an alpha of zero means no scale, as in llama.cpp", () => {
    const good = readGguf(toGguf(peft, { arch: "qwen2" }));
    const metadata = new Map(good.metadata).set("adapter.lora.alpha", { type: "float32", value: 0 });
    expect(fromGguf(writeGguf({ ...good, metadata })).modules[0]).toMatchObject({ alpha: 1, scale: 1 });
  });
});

function one(): { rank: number; alpha: number; rslora: boolean } {
  return { rank: 1, alpha: 2, rslora: false };
}

function floats({ bytes }: GgufTensor): Float32Array {
  return new Float32Array(new Uint8Array(bytes).buffer);
}
