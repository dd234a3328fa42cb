import { matches, moduleOfTensor } from "@tutti/adapter/find/names";
import { inject } from "@tutti/adapter/inject";
import { type Offer, offerOf, resolve } from "@tutti/adapter/resolve";
import type { AdapterSpec, ResolvedAdapter } from "@tutti/adapter/spec";
import { Fault } from "@tutti/foundation/fault";
import type { Bind } from "@tutti/graph/bind";
import { differentiate } from "@tutti/graph/differentiate";
import type { TracedGraph } from "@tutti/graph/ir";
import { type Loss, withLoss } from "@tutti/graph/loss";
import type { Model } from "@tutti/graph/read";
import { trace } from "@tutti/graph/trace";
import { widened } from "@tutti/graph/widen";
import { type AdapterOptions, specOf } from "./options.ts";

/** What a training step is derived from. */
export type StepOptions = {
  readonly adapter: AdapterSpec;
  readonly bind: Bind;
  readonly loss: Loss & { readonly output?: string };
};

/** Each stage of the way from a model to its training step (docs/architecture.md). */
export type Derived = {
  readonly adapter: ResolvedAdapter;
  readonly traced: TracedGraph;
  /** Forward pass with the loss, without gradients. */
  readonly judged: TracedGraph;
  readonly step: TracedGraph;
};

export function derived(model: Model, { adapter, bind, loss }: StepOptions): Derived {
  return derivedFor(model, resolve(model, adapter), { bind, loss });
}

/** The same for an adapter that is resolved. */
export function derivedFor(
  model: Model,
  adapter: ResolvedAdapter,
  { bind, loss }: Omit<StepOptions, "adapter">,
): Derived {
  const traced = trace(widened(model.graph), bind);
  const judged = withLoss(inject(traced, adapter), loss);
  const step = differentiate(judged, { loss: "loss", wrt: adapter.tensors.map(({ name }) => name) });
  return { adapter, traced, judged, step };
}

/** A choice of what to train, with the reason to make it. */
export type Suggestion = {
  readonly name: string;
  readonly why: string;
  readonly spec: Pick<AdapterSpec, "targets" | "save">;
};

/** The projections that Hu et al. 2021, section 7.1, find worth most, by their usual names. */
const ATTENTION = /(^|\.)(query|value|q_proj|v_proj|q|v|q_lin|v_lin|c_attn|in_proj|qkv)$/;

/** What one may sensibly train of a model, the most usual choice first. Each has something to train. */
export function suggestionsOf({ candidates, saveables }: Offer): readonly Suggestion[] {
  const modules = (kind: string) => candidates.filter((one) => one.kind === kind).map(({ module }) => module);
  const [linear, convolutions] = [modules("linear"), modules("conv")];
  const attention = linear.filter((module) => ATTENTION.test(module));
  const cells = saveables.map(({ name }) => name).filter((name) => /(^|\.)[WRB](_\d+)?$/.test(name));
  const suggestions: Suggestion[] = [];
  const suggest = (name: string, why: string, spec: Suggestion["spec"]) =>
    suggestions.push({ name, why, spec });
  if (attention.length > 0 && attention.length < linear.length)
    suggest("attention", "queries and values: small, the usual first choice", { targets: attention });
  if (convolutions.length > linear.length)
    suggest("convolutions", "most of the model is convolutions", { targets: convolutions });
  if (cells.length > 0)
    suggest("recurrent", "cells have no factors and are trained whole", { targets: [], save: cells });
  if (linear.length > 0) suggest("all-linear", "every linear layer", { targets: "all-linear" });
  const last = linear.at(-1);
  if (last !== undefined && linear.length > 1)
    suggest("last", "the last linear layer alone: the least memory", { targets: [last] });
  if (suggestions.length === 0 && convolutions.length > 0)
    suggest("convolutions", "every convolution", { targets: convolutions });
  if (suggestions.length === 0 && saveables.length > 0) {
    const save = saveables.map(({ name }) => name);
    suggest("whole", "no layer that factors can stand beside; every tensor whole", { targets: [], save });
  }
  return suggestions;
}

/**
 * What the options ask for, or the first suggestion where they name nothing.
 * @throws Fault("unsupported") for a model of nothing to train.
 */
export function specOrFirst(model: Model, options: AdapterOptions): AdapterSpec {
  const { rank, alpha = 2 * rank } = options;
  const spec = specOf(options) ?? suggestionsOf(offerOf(model))[0]?.spec;
  if (spec) return { ...spec, rank, alpha };
  throw new Fault("unsupported", "adapter", { expected: "something to train", got: "nothing" });
}

/** A choice as one types it: each name by the shortest end of it that means nothing else of the model. */
export function typed({ targets, save }: Suggestion["spec"], { candidates, saveables }: Offer): string {
  const modules = candidates.map(({ module }) => [module]);
  const tensors = saveables.map(({ name }) => [name, moduleOfTensor(name) ?? name]);
  const named = targets === "all-linear" ? targets : shortest(targets, modules);
  const options = [named && `--targets ${named}`, save && `--save ${shortest(save, tensors)}`];
  return options.filter(Boolean).join(" ");
}

/** Patterns that mean the chosen names alone; `all` has the names that each thing answers to. */
function shortest(chosen: readonly string[], all: readonly (readonly string[])[]): string {
  const wanted = new Set(chosen);
  const others = all.filter(([name]) => !wanted.has(name!)).flat();
  if (others.length === 0 && chosen.length > 1) return "'*'";
  const safe = new Map<string, boolean>();
  const isSafe = (pattern: string) => {
    const known = safe.get(pattern) ?? !others.some((name) => matches(pattern, name));
    safe.set(pattern, known);
    return known;
  };
  const patterns = chosen.map((name) => {
    const parts = name.split(".");
    const ends = parts.map((_, at) => parts.slice(parts.length - 1 - at).join("."));
    return ends.find(isSafe) ?? name;
  });
  return [...new Set(patterns)].join(",");
}
