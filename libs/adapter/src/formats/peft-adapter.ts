import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { scaleOf } from "../resolve.ts";
import { type AdapterKind, factorNames } from "../spec.ts";
import { literalPattern, type PeftConfig, parsePeftConfig, patternValue } from "./peft-config.ts";
import { type FloatTensor, readSafetensors, writeSafetensors } from "./safetensors.ts";

/**
 * An adapter under torch's module names and in PEFT's shapes, bound to no base: what all file formats are
 * read to and written from.
 */
export type PeftAdapter = {
  readonly modules: readonly PeftModule[];
  /** Tensors trained whole, in torch's orientation ([out, in] for linear weights). */
  readonly whole: readonly NamedTensor[];
};

export type PeftModule = {
  readonly name: string;
  readonly kind: AdapterKind;
  readonly rank: number;
  readonly alpha: number;
  /** What B·A is multiplied by. */
  readonly scale: number;
  /** [r, in, …kernel]; an embedding's [r, vocabulary]. */
  readonly a: FloatTensor;
  /** [out, r, 1…] */
  readonly b: FloatTensor;
};

export type NamedTensor = FloatTensor & {
  readonly name: string;
  /** The shape is the one the base stores, which only the base can turn to torch's. */
  readonly asStored?: boolean;
};

/** adapter_config.json and adapter_model.safetensors, as `PeftModel.from_pretrained` reads them. */
export type PeftFiles = { readonly config: string; readonly weights: Uint8Array };

/** What PEFT puts before every name of a file: its own wrapper and the tuner's. */
const PREFIX = "base_model.model.";

/**
 * PEFT files as an adapter.
 * @throws Fault("unsupported") naming config keys or tensors that plain LoRA does not have;
 * Fault("bad-input") for a rank or shape that does not fit; Fault("refused") for a pickled file.
 */
export function readPeft(config: string, weights: Uint8Array): PeftAdapter {
  demand(typeof config === "string", () => {
    const expected = "the text of the file";
    return new Fault("bad-input", "adapter_config.json", { expected, got: typeof config });
  });
  demand(weights instanceof Uint8Array, () => {
    return new Fault("bad-input", "adapter weights", { expected: "the file's bytes", got: typeof weights });
  });
  const settings = parsePeftConfig(config);
  const { pairs, whole } = partsOf(weights);
  return { modules: [...pairs].map(([name, pair]) => moduleOf(name, pair, settings)), whole };
}

/**
 * PEFT's tensors without their config, or a release's own: alpha is the caller's to know, ranks are those of
 * the tensors.
 */
export function readBare(weights: Uint8Array, alpha: number): PeftAdapter {
  const { pairs, whole } = partsOf(weights);
  const modules = [...pairs].map(([name, pair]) => {
    const rank = pair.a?.shape[0] ?? 0;
    return moduleFrom(name, pair, { rank, alpha, scale: alpha / rank });
  });
  return { modules, whole };
}

type Parts = { readonly pairs: ReadonlyMap<string, Pair>; readonly whole: readonly NamedTensor[] };

/** A file's tensors by module name, without PEFT's prefix. */
function partsOf(weights: Uint8Array): Parts {
  refusePickle(weights);
  const pairs = new Map<string, Pair>();
  const whole: NamedTensor[] = [];
  for (const [full, tensor] of readSafetensors(weights)) {
    const name = full.startsWith(PREFIX) ? full.slice(PREFIX.length) : full;
    const factor = factorOfName(name);
    if (factor) pairs.set(factor.module, { ...pairs.get(factor.module), ...pairOf(factor, tensor) });
    else if (WHOLE.test(name) && !/\.(?:lora_|base_layer\.)/.test(name)) whole.push({ ...tensor, name });
    else
      throw new Fault("unsupported", `adapter tensor ${full}`, {
        expected: "lora_A, lora_B or a whole tensor",
      });
  }
  return { pairs, whole };
}

const WHOLE = /^(.+)\.(weight|bias)$/;

type Factor = { readonly module: string; readonly factor: "a" | "b"; readonly table: boolean };
type Pair = { readonly a?: FloatTensor; readonly b?: FloatTensor; readonly table?: boolean };

/** The module and factor that a tensor's name means, without PEFT's prefix; undefined for other tensors. */
export function factorOfName(name: string): Factor | undefined {
  const found = /^(.+)\.lora_(?:(A|B)\.weight|embedding_(A|B))$/.exec(name);
  if (!found) return undefined;
  const [, module, layer, table] = found;
  return { module: module!, factor: (layer ?? table) === "A" ? "a" : "b", table: layer === undefined };
}

function pairOf({ factor, table }: Factor, tensor: FloatTensor): Pair {
  return { [factor]: tensor, table };
}

function moduleOf(name: string, pair: Pair, settings: PeftConfig): PeftModule {
  const rank = patternValue(settings.rankPattern, name) ?? settings.rank;
  const alpha = patternValue(settings.alphaPattern, name) ?? settings.alpha;
  return moduleFrom(name, pair, { rank, alpha, scale: scaleOf({ rank, alpha, rslora: settings.rslora }) });
}

/** A module of two factors that fit each other and the rank. */
export function moduleFrom(
  name: string,
  { a, b, table = false }: Pair,
  size: { readonly rank: number; readonly alpha: number; readonly scale: number },
): PeftModule {
  demand(
    a && b,
    () => new Fault("bad-input", `adapter of ${name}`, { expected: "lora_A and lora_B", got: "one of them" }),
  );
  const { rank } = size;
  const [got] = a.shape;
  demand(
    got === rank,
    () => new Fault("bad-input", `adapter of ${name}: rank`, { expected: `${rank}`, got: `${got}` }),
  );
  const kind = table ? "embedding" : a.shape.length === 2 ? "linear" : "conv";
  const fits =
    a.shape.length >= 2 &&
    b.shape.length === a.shape.length &&
    (!table || a.shape.length === 2) &&
    b.shape[1] === rank &&
    b.shape.slice(2).every((one) => one === 1);
  demand(fits, () => {
    const expected = `A [${rank}, in, …] and B [out, ${rank}, 1…]`;
    return new Fault("bad-input", `adapter of ${name}`, { expected, got: `[${a.shape}] and [${b.shape}]` });
  });
  return { name, kind, ...size, a, b };
}

/**
 * The reverse of `readPeft`; float32 tensors, as devices and PEFT keep them.
 * @throws Fault("unsupported") for a tensor whose orientation only the base tells: bind it and unbind it.
 */
export function writePeft({ modules, whole }: PeftAdapter): PeftFiles {
  const unturned = whole.find(({ asStored, shape }) => asStored && shape.length === 2);
  demand(!unturned, () => {
    const [expected, got] = ["torch's orientation", "the base's, which only the base tells"];
    return new Fault("unsupported", `PEFT tensor ${unturned?.name}`, { expected, got });
  });
  const factors = modules.flatMap(({ name, kind, a, b }) => {
    const names = factorNames(name, kind);
    return [
      { ...a, name: names.a },
      { ...b, name: names.b },
    ];
  });
  const files = [...factors, ...whole].map(({ name, dtype, shape, data }) => {
    return { name: PREFIX + name, dtype, shape, data };
  });
  return { config: configOf(modules, whole), weights: writeSafetensors(files, { format: "pt" }) };
}

function configOf(modules: readonly PeftModule[], whole: readonly NamedTensor[]): string {
  const rslora = modules.some((module) => module.scale !== scaleOf({ ...module, rslora: false }));
  const alphas = modules.map((module) => [module, alphaOf(module, rslora)] as const);
  const ranks = modules.map((module) => [module, module.rank] as const);
  const [rank, alpha] = [commonest(ranks) ?? 1, commonest(alphas) ?? 1];
  const owners = whole.map(({ name }) => {
    const end = name.lastIndexOf(".");
    if (end > 0) return name.slice(0, end);
    throw new Fault("unsupported", `PEFT name of ${name}`, { expected: "a tensor of a module" });
  });
  const config = {
    peft_type: "LORA",
    task_type: null,
    base_model_name_or_path: null,
    inference_mode: true,
    r: rank,
    lora_alpha: alpha,
    use_rslora: rslora,
    lora_dropout: 0,
    bias: "none",
    fan_in_fan_out: false,
    init_lora_weights: true,
    target_modules: modules.map(({ name }) => name),
    modules_to_save: owners.length > 0 ? [...new Set(owners)] : null,
    rank_pattern: patterns(ranks, rank),
    alpha_pattern: patterns(alphas, alpha),
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}

/** The module's alpha where it gives the module's scale under the file's one rule, else one that does. */
function alphaOf(module: PeftModule, rslora: boolean): number {
  const { rank, alpha, scale } = module;
  if (scaleOf({ rank, alpha, rslora }) === scale) return alpha;
  return scale * (rslora ? Math.sqrt(rank) : rank);
}

type Valued = readonly (readonly [PeftModule, number])[];

function patterns(values: Valued, common: number): Readonly<Record<string, number>> {
  const others = values.filter(([, value]) => value !== common);
  return Object.fromEntries(others.map(([{ name }, value]) => [literalPattern(name), value]));
}

function commonest(values: Valued): number | undefined {
  const counts = new Map<number, number>();
  for (const [, value] of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0];
}

/** `torch.save` writes a ZIP archive, or a bare pickle in old files; either runs code when it is read. */
function refusePickle(weights: Uint8Array): void {
  const todo = "Save the adapter with safe_serialization=True";
  demand(!isPickle(weights), () => {
    return new Fault("refused", "adapter weights", { expected: "safetensors", got: "a pickled .bin", todo });
  });
}

/** Whether bytes are what `torch.save` writes. */
export function isPickle(bytes: Uint8Array): boolean {
  const [first, second] = bytes;
  const archive = first === 0x50 && second === 0x4b;
  // In a safetensors file the header begins at byte 8, with a brace.
  return bytes[8] !== 0x7b && (archive || first === 0x80);
}
