import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sizeOf } from "@tutti/graph/ir";
import type { Model } from "@tutti/graph/read";
import type { TensorSpec } from "@tutti/update/layout";
import type { Candidate } from "../find/candidates.ts";
import { rewrap, type Wrapper, wrapperOf } from "../find/names.ts";
import { wholeRefusal } from "../find/saveable.ts";
import { transpose } from "../merge.ts";
import { assemble, type Offer, offerOf, type ResolveOptions } from "../resolve.ts";
import { factorSpecs, type ResolvedAdapter, type SavedTensor } from "../spec.ts";
import type { NamedTensor, PeftAdapter, PeftModule } from "./peft-adapter.ts";
import type { FloatTensor } from "./safetensors.ts";

/** An adapter bound to a base, and its tensors under the base's names. */
export type Loaded = { readonly adapter: ResolvedAdapter; readonly tensors: Map<string, Float32Array> };

export type BindOptions = ResolveOptions & {
  /**
   * Per output channel factors by PEFT module name, for convolutions into which the exporter folded a batch
   * norm: an adapter trained before the fold needs its rows of B times γ/σ.
   */
  readonly outputScale?: Readonly<Record<string, Float32Array>>;
};

/**
 * Binds an adapter to a base model. A prefix may differ between torch's module names and the graph's
 * (wrapperOf).
 * @throws Fault("not-found") for a module that the base lacks; Fault("bad-input") for a shape that does not
 * fit.
 */
export function bind(peft: PeftAdapter, model: Model, options: BindOptions = {}): Loaded {
  demand(model?.graph && model.bytes, () => {
    const todo = "Read its bytes first";
    return new Fault("bad-input", "base model", { expected: "a model, read", got: typeof model, todo });
  });
  const found = matched(peft, offerOf(model, options));
  const modules = found.modules.map(({ candidate, module: { name, kind, rank, alpha, scale } }) => {
    demand(
      kind === candidate.kind,
      () => new Fault("bad-input", `adapter of ${name}`, { expected: candidate.kind, got: kind }),
    );
    return { ...candidate, rank, alpha, scale };
  });
  const adapter = assemble(model, { modules, saved: found.saved.map(({ saved }) => saved) });
  const tensors = new Map<string, Float32Array>();
  for (const [i, { module }] of found.modules.entries()) {
    const [a, b] = factorSpecs(modules[i]!);
    tensors.set(a.name, checked(a, module.a));
    tensors.set(b.name, rescaled(checked(b, module.b), options.outputScale?.[module.name]));
  }
  for (const { saved, tensor } of found.saved) {
    const turns = saved.layout === "in-out" && !tensor.asStored;
    const outer = { name: saved.name, shape: turns ? saved.shape.toReversed() : saved.shape };
    const data = checked(outer, tensor);
    tensors.set(saved.name, turns ? transpose(data, outer.shape) : data);
  }
  return { adapter, tensors };
}

export type UnbindOptions = {
  /** The graph's prefix and the one the torch model has in its place: `{ from: "m.", to: "" }`. */
  readonly wrapper?: Wrapper;
};

/**
 * The reverse of `bind`: the adapter under torch's names. Saved tensors take torch's orientation.
 * @throws Fault("bad-input") for a name without the wrapper's prefix.
 */
export function unbind(
  adapter: ResolvedAdapter,
  tensors: ReadonlyMap<string, Float32Array>,
  { wrapper = { from: "", to: "" } }: UnbindOptions = {},
): PeftAdapter {
  const outer = (name: string): string => {
    const renamed = rewrap(wrapper, name);
    if (renamed !== undefined) return renamed;
    throw new Fault("bad-input", `PEFT name of ${name}`, { expected: `the prefix ${wrapper.from}` });
  };
  const valuesOf = ({ name, shape }: TensorSpec): FloatTensor => {
    const data = tensors.get(name);
    assert(data?.length === sizeOf(shape), `unbind: ${name} has the values of [${shape}]`);
    return { dtype: "F32", shape, data };
  };
  const modules = adapter.modules.map((module): PeftModule => {
    const [a, b] = factorSpecs(module);
    const { kind, rank, alpha, scale } = module;
    return { name: outer(module.module), kind, rank, alpha, scale, a: valuesOf(a), b: valuesOf(b) };
  });
  const whole = adapter.saved.map((saved): NamedTensor => {
    return { ...turned(saved, valuesOf(saved)), name: outer(saved.name) };
  });
  return { modules, whole };
}

type Matched = {
  readonly modules: readonly { readonly candidate: Candidate; readonly module: PeftModule }[];
  readonly saved: readonly { readonly saved: SavedTensor; readonly tensor: NamedTensor }[];
};

/** Both in the graph's order, so that the result is what `resolve` gives for the same modules. */
function matched({ modules, whole }: PeftAdapter, { candidates, saveables }: Offer): Matched {
  const known = new Set([...candidates.map(({ module }) => module), ...saveables.map(({ name }) => name)]);
  const wanted = [...modules, ...whole].map(({ name }) => name);
  const wrapper = wrapperOf(wanted, known);
  const absent = () => absentFrom({ modules, whole }, { candidates, saveables });
  demand(wrapper, absent);
  const byName = <T extends { readonly name: string }>(parts: readonly T[]) =>
    new Map(parts.map((part) => [rewrap(wrapper, part.name), part] as const));
  const [factors, tensors] = [byName(modules), byName(whole)];
  const found = {
    modules: candidates.flatMap((candidate) => {
      const module = factors.get(candidate.module);
      return module ? [{ candidate, module }] : [];
    }),
    saved: saveables.flatMap((saved) => {
      const tensor = tensors.get(saved.name);
      return tensor ? [{ saved, tensor }] : [];
    }),
  };
  demand(found.modules.length + found.saved.length === wanted.length, absent);
  return found;
}

/** What of the adapter the base lacks: a few names where the rest fits under one prefix, else all. */
function absentFrom({ modules, whole }: PeftAdapter, { candidates, saveables }: Offer): Fault {
  const known = candidates.map(({ module }) => module);
  const factors = modules.map(({ name }) => name);
  const wrapper = factors.length > 0 ? wrapperOf(factors, new Set(known)) : undefined;
  const tensors = new Set(saveables.map(({ name }) => name));
  const lost = whole.filter(({ name }) => !wrapper || !tensors.has(rewrap(wrapper, name) ?? ""));
  if (wrapper && lost.length > 0) {
    const names = new Set(lost.map(({ name }) => rewrap(wrapper, name)));
    const inside = candidates.find(({ module }) => names.has(`${module}.weight`));
    const refusal = inside && wholeRefusal(inside, saveables);
    if (refusal) return refusal;
    return new Fault("not-found", `adapter: ${listed(lost.map(({ name }) => name))}`, {
      expected: "tensors of the base that can be exchanged whole",
      got: listed([...tensors]),
    });
  }
  return new Fault("not-found", "adapter: modules of the base", {
    expected: `${listed([...factors, ...lost.map(({ name }) => name)])} under some prefix`,
    got: listed(known),
    todo: "Give the nodes' module names (`names`, --names)",
  });
}

function listed(names: readonly string[]): string {
  if (names.length === 0) return "none";
  return names.slice(0, 20).join(", ") + (names.length > 20 ? ", …" : "");
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

function turned(saved: SavedTensor, { dtype, data }: FloatTensor): FloatTensor {
  const { shape } = saved;
  if (saved.layout === "as-is") return { dtype, shape, data };
  return { dtype, shape: shape.toReversed(), data: transpose(data, shape) };
}
