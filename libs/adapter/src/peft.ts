import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sizeOf } from "@tutti/graph/ir";
import type { Model } from "@tutti/graph/read";
import type { TensorSpec } from "@tutti/update/layout";
import type { Candidate } from "./candidates.ts";
import { transpose } from "./merge.ts";
import { rewrap, type Wrapper, wrapperOf } from "./names.ts";
import { literalPattern, type PeftConfig, parsePeftConfig, patternValue } from "./peft-config.ts";
import { assemble, type Offer, offerOf, type ResolveOptions, scaleOf } from "./resolve.ts";
import { type FloatTensor, readSafetensors, writeSafetensors } from "./safetensors.ts";
import { type AdaptedModule, factorSpecs, type ResolvedAdapter, type SavedTensor } from "./spec.ts";

/** What PEFT puts before every name of a file: its own wrapper and the tuner's. */
const PREFIX = "base_model.model.";

/** adapter_config.json and adapter_model.safetensors, as `PeftModel.from_pretrained` reads them. */
export type PeftFiles = { readonly config: string; readonly weights: Uint8Array };

export type ToPeftOptions = {
  /** The graph's prefix and the one the torch model has in its place: `{ from: "m.", to: "" }`. */
  readonly wrapper?: Wrapper;
};

/**
 * The adapter as PEFT files. Saved tensors take torch's orientation, [out, in] for linear weights.
 * @throws Fault("bad-input") for a name without the wrapper's prefix; Fault("unsupported") for a saved
 * tensor of no module, which PEFT has no place for.
 */
export function toPeft(
  adapter: ResolvedAdapter,
  tensors: ReadonlyMap<string, Float32Array>,
  { wrapper = { from: "", to: "" } }: ToPeftOptions = {},
): PeftFiles {
  const outer = (name: string): string => {
    const renamed = rewrap(wrapper, name);
    if (renamed !== undefined) return renamed;
    throw new Fault("bad-input", `PEFT name of ${name}`, { expected: `the prefix ${wrapper.from}` });
  };
  const factors = adapter.modules.flatMap((module) => factorSpecs(module));
  const whole = adapter.saved.map((saved) => turned(saved, valuesOf(tensors, saved)));
  const files = [...factors.map((spec) => ({ ...spec, data: valuesOf(tensors, spec) })), ...whole];
  const weights = writeSafetensors(
    files.map((file) => ({ ...file, name: PREFIX + outer(file.name) })),
    { format: "pt" },
  );
  return { config: configOf(adapter, outer), weights };
}

function configOf({ modules, saved }: ResolvedAdapter, outer: (name: string) => string): string {
  const rank = commonest(modules.map((module) => module.rank)) ?? 1;
  const alpha = commonest(modules.map((module) => module.alpha)) ?? 1;
  const patterns = (of: (module: AdaptedModule) => number, common: number) =>
    Object.fromEntries(
      modules
        .filter((module) => of(module) !== common)
        .map((module) => [literalPattern(outer(module.module)), of(module)]),
    );
  const rslora = modules.some((module) => module.scale !== scaleOf({ ...module, rslora: false }));
  const owners = saved.map(({ name }) => {
    const end = name.lastIndexOf(".");
    if (end > 0) return outer(name.slice(0, end));
    throw new Fault("unsupported", `PEFT name of ${name}`, { expected: "a tensor of a module" });
  });
  const config = {
    ...{ peft_type: "LORA", task_type: null, base_model_name_or_path: null, inference_mode: true },
    ...{
      r: rank,
      lora_alpha: alpha,
      use_rslora: rslora,
      lora_dropout: 0,
      bias: "none",
      fan_in_fan_out: false,
    },
    ...{ init_lora_weights: true, target_modules: modules.map(({ module }) => outer(module)) },
    modules_to_save: owners.length > 0 ? [...new Set(owners)] : null,
    rank_pattern: patterns((module) => module.rank, rank),
    alpha_pattern: patterns((module) => module.alpha, alpha),
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}

function commonest(values: readonly number[]): number | undefined {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0];
}

export type FromPeftOptions = ResolveOptions & {
  /**
   * Per output channel factors by PEFT module name, for convolutions into which the exporter folded a batch
   * norm: an adapter trained before the fold needs its rows of B times γ/σ.
   */
  readonly outputScale?: Readonly<Record<string, Float32Array>>;
};

/** An adapter bound to a base, and its tensors under the base's names. */
export type Loaded = { readonly adapter: ResolvedAdapter; readonly tensors: Map<string, Float32Array> };

/**
 * PEFT files bound to a base model. A prefix may differ between PEFT's module names and the graph's
 * (wrapperOf).
 * @throws Fault("unsupported") naming config keys or tensors that plain LoRA does not have;
 * Fault("not-found") for a module that the base lacks; Fault("bad-input") for a shape or rank that does not
 * fit; Fault("refused") for a pickled file.
 */
export function fromPeft(
  config: string,
  weights: Uint8Array,
  model: Model,
  options: FromPeftOptions = {},
): Loaded {
  const settings = parsePeftConfig(config);
  refusePickle(weights);
  const parts = partsOf(readSafetensors(weights));
  const offer = offerOf(model, options);
  const found = bound(parts, offer);
  const modules = found.modules.map(({ candidate, name, a }) =>
    adapted(candidate, { name, rank: a.shape[0] ?? 0 }, settings),
  );
  const adapter = assemble(model, { modules, saved: found.saved.map(({ saved }) => saved) });
  const tensors = new Map<string, Float32Array>();
  for (const [i, { name, a, b }] of found.modules.entries()) {
    const [specA, specB] = factorSpecs(modules[i]!);
    tensors.set(specA.name, checked(specA, a));
    tensors.set(specB.name, rescaled(checked(specB, b), options.outputScale?.[name]));
  }
  for (const { saved, tensor } of found.saved) {
    const outer = {
      name: saved.name,
      shape: saved.layout === "in-out" ? saved.shape.toReversed() : saved.shape,
    };
    const data = checked(outer, tensor);
    tensors.set(saved.name, saved.layout === "in-out" ? transpose(data, outer.shape) : data);
  }
  return { adapter, tensors };
}

/** A file's tensors by PEFT module name, without the prefix. */
type Parts = {
  readonly factors: ReadonlyMap<string, { readonly a?: FloatTensor; readonly b?: FloatTensor }>;
  readonly whole: ReadonlyMap<string, FloatTensor>;
};

const FACTOR = /^(.+)\.lora_(?:(A|B)\.weight|embedding_(A|B))$/;
const WHOLE = /^(.+)\.(weight|bias)$/;

function partsOf(tensors: ReadonlyMap<string, FloatTensor>): Parts {
  const factors = new Map<string, { a?: FloatTensor; b?: FloatTensor }>();
  const whole = new Map<string, FloatTensor>();
  for (const [full, tensor] of tensors) {
    const name = full.startsWith(PREFIX) ? full.slice(PREFIX.length) : full;
    const [, module, layer, table] = FACTOR.exec(name) ?? [];
    if (module !== undefined) {
      const pair = factors.get(module) ?? {};
      pair[(layer ?? table) === "A" ? "a" : "b"] = tensor;
      factors.set(module, pair);
    } else if (WHOLE.test(name) && !/\.(?:lora_|base_layer\.)/.test(name)) whole.set(name, tensor);
    else
      throw new Fault("unsupported", `adapter tensor ${full}`, {
        expected: "lora_A, lora_B or a whole tensor",
      });
  }
  return { factors, whole };
}

type Bound = {
  readonly modules: readonly { candidate: Candidate; name: string; a: FloatTensor; b: FloatTensor }[];
  readonly saved: readonly { saved: SavedTensor; tensor: FloatTensor }[];
};

/** Both in the graph's order, so that the result is what `resolve` gives for the same modules. */
function bound({ factors, whole }: Parts, { candidates, saveables }: Offer): Bound {
  const known = new Set([...candidates.map(({ module }) => module), ...saveables.map(({ name }) => name)]);
  const wanted = [...factors.keys(), ...whole.keys()];
  const wrapper = wrapperOf(wanted, known);
  demand(wrapper, () => absent(wanted, candidates));
  const byName = <T>(parts: ReadonlyMap<string, T>) =>
    new Map([...parts].map(([name, part]) => [rewrap(wrapper, name), { name, part }] as const));
  const [pairs, wholes] = [byName(factors), byName(whole)];
  const modules = candidates.flatMap((candidate) => {
    const found = pairs.get(candidate.module);
    if (!found) return [];
    const { a, b } = found.part;
    if (a && b) return [{ candidate, name: found.name, a, b }];
    throw new Fault("bad-input", `adapter of ${found.name}`, {
      expected: "lora_A and lora_B",
      got: "one of them",
    });
  });
  const saved = saveables.flatMap((item) => {
    const found = wholes.get(item.name);
    return found ? [{ saved: item, tensor: found.part }] : [];
  });
  demand(modules.length + saved.length === wanted.length, () => absent(wanted, candidates));
  return { modules, saved };
}

function absent(wanted: readonly string[], candidates: readonly Candidate[]): Fault {
  const names = (all: readonly string[]) => all.slice(0, 20).join(", ") + (all.length > 20 ? ", …" : "");
  return new Fault("not-found", "adapter: modules of the base", {
    expected: `${names(wanted)} under some prefix`,
    got: names(candidates.map(({ module }) => module)),
    todo: "Give the nodes' module names in `names`",
  });
}

function adapted(
  candidate: Candidate,
  { name, rank }: { name: string; rank: number },
  { rslora, ...config }: PeftConfig,
): AdaptedModule {
  const expected = patternValue(config.rankPattern, name) ?? config.rank;
  demand(
    rank === expected,
    () => new Fault("bad-input", `adapter of ${name}: rank`, { expected: `${expected}`, got: `${rank}` }),
  );
  const alpha = patternValue(config.alphaPattern, name) ?? config.alpha;
  return { ...candidate, rank, alpha, scale: scaleOf({ rank, alpha, rslora }) };
}

function checked({ name, shape }: TensorSpec, tensor: FloatTensor): Float32Array {
  const got = `[${tensor.shape}]`;
  demand(
    `[${shape}]` === got,
    () => new Fault("bad-input", `tensor ${name}`, { expected: `[${shape}]`, got }),
  );
  return tensor.data;
}

/** Rows of B times a factor each: B [out, r, …] scaled by output channel. */
function rescaled(b: Float32Array, scale: Float32Array | undefined): Float32Array {
  if (!scale) return b;
  demand(
    b.length % scale.length === 0,
    () =>
      new Fault("bad-input", "outputScale", { expected: "one factor per output", got: `${scale.length}` }),
  );
  const rank = b.length / scale.length;
  return b.map((value, at) => value * scale[Math.floor(at / rank)]!);
}

function turned(saved: SavedTensor, data: Float32Array): TensorSpec & { readonly data: Float32Array } {
  const { name, shape } = saved;
  if (saved.layout === "as-is") return { name, shape, data };
  return { name, shape: shape.toReversed(), data: transpose(data, shape) };
}

function valuesOf(tensors: ReadonlyMap<string, Float32Array>, { name, shape }: TensorSpec): Float32Array {
  const data = tensors.get(name);
  assert(data?.length === sizeOf(shape), `toPeft: ${name} has the values of [${shape}]`);
  return data;
}

/** `torch.save` writes a ZIP archive, or a bare pickle in old files; either runs code when it is read. */
function refusePickle(weights: Uint8Array): void {
  const [first, second] = weights;
  const archive = first === 0x50 && second === 0x4b;
  // In a safetensors file the header begins at byte 8, with a brace.
  const pickled = weights[8] !== 0x7b && (archive || first === 0x80);
  const todo = "Save the adapter with safe_serialization=True";
  demand(!pickled, () => {
    return new Fault("refused", "adapter weights", { expected: "safetensors", got: "a pickled .bin", todo });
  });
}
