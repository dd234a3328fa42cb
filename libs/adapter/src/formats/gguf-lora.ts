import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { transpose } from "../merge.ts";
import { type GgufFile, type GgufTensor, type GgufValue, readGguf, writeGguf } from "./gguf.ts";
import { type Architecture, architectureOf, ggufName, torchName } from "./gguf-names.ts";
import { moduleFrom, type PeftAdapter, type PeftModule } from "./peft-adapter.ts";
import { type FloatTensor, widened } from "./safetensors.ts";
import { narrowed } from "./safetensors-narrow.ts";

/**
 * LoRA adapters as llama.cpp reads them (llama.cpp, convert_lora_to_gguf.py and llama-adapter.cpp): tensors
 * `<weight>.lora_a` [r, in] and `.lora_b` [out, r], one alpha for all, scale alpha/r by each tensor's own r.
 */

/** Attention heads, of queries and of keys; what llama's row order depends on. */
export type Heads = { readonly heads?: number | undefined; readonly kvHeads?: number | undefined };

export type ToGgufOptions = Heads & {
  readonly arch: Architecture;
  readonly dtype?: "F32" | "F16" | undefined;
  /** Kept as general.name. */
  readonly name?: string | undefined;
};

const KEYS = {
  arch: "general.architecture",
  type: "general.type",
  adapter: "adapter.type",
  alpha: "adapter.lora.alpha",
  name: "general.name",
  fileType: "general.file_type",
  heads: "llama.attention.head_count",
  kvHeads: "llama.attention.head_count_kv",
} as const;

/**
 * The adapter as a GGUF file. The file has one alpha, so B of a module with another scale is multiplied by
 * the difference. For llama the rows of q's and k's B take the order of llama.cpp's rotary embedding, and the
 * counts of heads are kept in the file, so that reading it back needs nothing more.
 * @throws Fault("unsupported") naming what llama.cpp has no place for: convolutions, whole tensors, modules
 * its architecture does not have; Fault("bad-input") where heads are missing or do not divide.
 */
export function toGguf(peft: PeftAdapter, options: ToGgufOptions): Uint8Array {
  const { arch, dtype = "F32" } = options;
  const [strange] = peft.whole;
  demand(strange === undefined, () => noPlace(strange!.name, "a tensor trained whole"));
  const alpha = Math.fround(commonAlpha(peft.modules));
  // A zero would mean "no scale" to llama.cpp.
  demand(alpha > 0 && Number.isFinite(alpha), () => {
    return new Fault("bad-input", "GGUF alpha", { expected: "a float32 above 0", got: `${alpha}` });
  });
  const tensors = new Map<string, GgufTensor>();
  for (const module of peft.modules) {
    const weight = ggufName(arch, module.name);
    demand(!tensors.has(`${weight}.weight.lora_a`), () => {
      return new Fault("conflict", `GGUF name of ${module.name}`, { expected: "one module", got: weight });
    });
    const { a, b } = outgoing(module, { weight, alpha, options });
    tensors.set(`${weight}.weight.lora_a`, { dtype, shape: a.shape, bytes: narrowed(dtype, a, module.name) });
    tensors.set(`${weight}.weight.lora_b`, { dtype, shape: b.shape, bytes: narrowed(dtype, b, module.name) });
  }
  return writeGguf({ metadata: metadataOf(alpha, options), tensors });
}

function metadataOf(alpha: number, options: ToGgufOptions): ReadonlyMap<string, GgufValue> {
  const { arch, dtype = "F32", name, heads, kvHeads } = options;
  const text = (value: string): GgufValue => ({ type: "string", value });
  const count = (value: number): GgufValue => ({ type: "uint32", value });
  const metadata = new Map<string, GgufValue>([
    [KEYS.arch, text(arch)],
    [KEYS.type, text("adapter")],
    [KEYS.adapter, text("lora")],
    [KEYS.alpha, { type: "float32", value: alpha }],
  ]);
  if (name !== undefined) metadata.set(KEYS.name, text(name));
  // LLAMA_FTYPE_ALL_F32 and LLAMA_FTYPE_MOSTLY_F16.
  metadata.set(KEYS.fileType, count(dtype === "F32" ? 0 : 1));
  if (arch === "llama" && heads !== undefined) {
    metadata.set(KEYS.heads, count(heads));
    metadata.set(KEYS.kvHeads, count(kvHeads ?? heads));
  }
  return metadata;
}

/** The alpha that leaves most tensors as they are. */
function commonAlpha(modules: readonly PeftModule[]): number {
  const counts = new Map<number, number>();
  for (const { scale, rank } of modules) counts.set(scale * rank, (counts.get(scale * rank) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0] ?? 1;
}

type Shaped = Pick<FloatTensor, "shape" | "data">;
type Way = { readonly weight: string; readonly alpha: number; readonly options: Heads };

function outgoing(module: PeftModule, way: Way & { options: ToGgufOptions }): { a: Shaped; b: Shaped } {
  const { kind, name, rank, scale } = module;
  const table = way.weight === "token_embd";
  demand(kind === (table ? "embedding" : "linear"), () => noPlace(name, `${kind} factors`));
  const wanted = scale * rank;
  const factor = Math.fround(wanted) === way.alpha ? 1 : wanted / way.alpha;
  const scaled = factor === 1 ? module.b.data : module.b.data.map((value) => value * factor);
  const heads = headsOf(way.options.arch, way);
  const data = heads ? rowsMoved(scaled, { rank, heads, name, into: "pairs" }) : scaled;
  return { a: table ? turned(module.a) : module.a, b: { shape: module.b.shape, data } };
}

/** llama.cpp looks rows up in an embedding's A, so there it lies transposed: [vocabulary, r]. */
function turned({ shape, data }: Shaped): Shaped {
  return { shape: shape.toReversed(), data: transpose(data, shape) };
}

/** Heads by which the rows of a weight are reordered; undefined for all but llama's queries and keys. */
function headsOf(arch: Architecture, { weight, options }: Omit<Way, "alpha">): number | undefined {
  const part = /\.attn_([qk])$/.exec(weight)?.[1];
  if (arch !== "llama" || part === undefined) return undefined;
  const count = part === "q" ? options.heads : (options.kvHeads ?? options.heads);
  if (count !== undefined) return count;
  throw new Fault("bad-input", `GGUF ${weight}`, {
    expected: "the base's number of attention heads",
    got: "none",
    todo: "llama reorders queries and keys by heads: give their numbers (--heads, --kv-heads)",
  });
}

type Rows = { readonly rank: number; readonly heads: number; readonly name: string };

/**
 * Rows of B between Hugging Face's order, in which a head's first and second halves rotate together, and
 * llama.cpp's, in which neighbours do (llama.cpp, LlamaModel.permute).
 */
function rowsMoved(
  data: Float32Array,
  { rank, heads, name, into }: Rows & { readonly into: "pairs" | "halves" },
): Float32Array {
  const size = data.length / rank / heads;
  demand(Number.isInteger(size / 2), () => {
    const expected = `rows that ${heads} heads of even size divide`;
    return new Fault("bad-input", `GGUF ${name}`, { expected, got: `${data.length / rank}` });
  });
  const out = new Float32Array(data.length);
  for (let row = 0; row < data.length / rank; row++) {
    const [head, at] = [Math.floor(row / size), row % size];
    const paired = head * size + 2 * (at % (size / 2)) + Math.floor(at / (size / 2));
    const [from, to] = into === "pairs" ? [row, paired] : [paired, row];
    out.set(data.subarray(from * rank, (from + 1) * rank), to * rank);
  }
  return out;
}

/**
 * A GGUF adapter under Hugging Face's names. Heads are needed for llama where the file does not tell them.
 * @throws Fault("bad-input") for a malformed file or factors that do not fit; Fault("unsupported") for
 * another kind of GGUF file, an architecture or a tensor that we do not know.
 */
export function fromGguf(bytes: Uint8Array, given: Heads = {}): PeftAdapter {
  const file = readGguf(bytes);
  expectText(file, KEYS.type, "adapter");
  expectText(file, KEYS.adapter, "lora");
  const arch = architectureOf(textOf(file, KEYS.arch));
  const alpha = numberOf(file, KEYS.alpha) ?? 0;
  const options = {
    heads: given.heads ?? numberOf(file, KEYS.heads),
    kvHeads: given.kvHeads ?? given.heads ?? numberOf(file, KEYS.kvHeads),
  };
  const pairs = new Map<string, { a?: FloatTensor; b?: FloatTensor }>();
  for (const [name, { dtype, shape, bytes: raw }] of file.tensors) {
    const [, weight, factor] = /^(.+)\.weight\.lora_([ab])$/.exec(name) ?? [];
    demand(weight !== undefined, () => {
      return new Fault("unsupported", `GGUF tensor ${name}`, { expected: "<weight>.lora_a or .lora_b" });
    });
    const pair = pairs.get(weight) ?? {};
    pair[factor as "a" | "b"] = { dtype, shape, data: widened(dtype, raw) };
    pairs.set(weight, pair);
  }
  const modules = [...pairs].map(([weight, pair]) => incoming(weight, pair, { arch, alpha, options }));
  return { modules, whole: [] };
}

type Kept = { readonly arch: Architecture; readonly alpha: number; readonly options: Heads };

function incoming(
  weight: string,
  { a, b }: { readonly a?: FloatTensor; readonly b?: FloatTensor },
  { arch, alpha, options }: Kept,
): PeftModule {
  const name = torchName(arch, weight);
  demand(a?.shape.length === 2 && b?.shape.length === 2, () => {
    const got = `${a?.shape.length ?? "no"} and ${b?.shape.length ?? "no"} dimensions`;
    return new Fault("bad-input", `GGUF ${weight}`, { expected: "matrices lora_a and lora_b", got });
  });
  const table = weight === "token_embd";
  const rank = a.shape[table ? 1 : 0]!;
  const heads = headsOf(arch, { weight, options });
  const rows = heads ? rowsMoved(b.data, { rank, heads, name, into: "halves" }) : b.data;
  // llama.cpp takes an alpha of zero for none: the product is added as it is.
  const size = alpha > 0 ? { rank, alpha, scale: alpha / rank } : { rank, alpha: rank, scale: 1 };
  const pair = { a: table ? { ...a, ...turned(a) } : a, b: { ...b, data: rows }, table };
  return moduleFrom(name, pair, size);
}

function expectText(file: GgufFile, key: string, expected: string): void {
  const got = textOf(file, key);
  demand(got === expected, () => new Fault("unsupported", `GGUF ${key}`, { expected, got }));
}

function textOf({ metadata }: GgufFile, key: string): string {
  const found = metadata.get(key);
  if (found?.type === "string") return String(found.value);
  throw new Fault("bad-input", `GGUF ${key}`, { expected: "a string", got: found?.type ?? "nothing" });
}

function numberOf({ metadata }: GgufFile, key: string): number | undefined {
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  const number = found.type === "array" ? Number.NaN : Number(found.value);
  const usable = Number.isFinite(number) && number >= 0;
  demand(usable, () => new Fault("bad-input", `GGUF ${key}`, { expected: "a number", got: `${number}` }));
  return number;
}

function noPlace(name: string, got: string): Fault {
  return new Fault("unsupported", `GGUF adapter, ${name}`, {
    expected: "factors of a linear weight, or of the token embedding",
    got,
    todo: "Write PEFT, or merge the adapter into its base and convert that (tutti adapter merge)",
  });
}
