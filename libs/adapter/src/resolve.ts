import { checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Model } from "@tutti/graph/read";
import { layoutOf } from "@tutti/update/layout";
import { type Candidate, candidatesOf, type GivenNames, refusalsOf, select } from "./find/candidates.ts";
import { matches, moduleOfTensor } from "./find/names.ts";
import { saveablesOf, wholeRefusal } from "./find/saveable.ts";
import { Sources, useKey } from "./find/sources.ts";
import {
  type AdaptedModule,
  type AdapterSpec,
  factorSpecs,
  type ResolvedAdapter,
  type SavedTensor,
} from "./spec.ts";

export type ResolveOptions = {
  /** Module names by node name (or by the node's first output), where the file's own names do not do. */
  readonly names?: GivenNames;
};

/** What a base model offers an adapter. */
export type Offer = { readonly candidates: readonly Candidate[]; readonly saveables: readonly SavedTensor[] };

/**
 * Binds a spec to a base model: which weights, under which names, in which order. The same spec and base
 * give an equal result anywhere. The model's SHA-256 is taken of `model.bytes`.
 * @throws Fault("not-found") listing the candidates, when a pattern means nothing; Fault("bad-input") for a
 * rank or alpha that is not a positive number; Fault("unsupported") where `save` names a weight that has no
 * float form.
 */
export function resolve(model: Model, spec: AdapterSpec, options: ResolveOptions = {}): ResolvedAdapter {
  checkSpec(spec);
  const { candidates, saveables } = offerOf(model, options);
  checkWhole(spec.save ?? [], { candidates, saveables });
  const saved = select(saveables, spec.save ?? [], {
    names: savedNames,
    missing: (pattern) =>
      missing(
        "save",
        pattern,
        saveables.map(({ name }) => name),
      ),
  });
  const whole = new Set(saved.flatMap(({ uses }) => uses.map(({ node, input }) => useKey(node, input))));
  const modules = chosen(spec, candidates, () =>
    refusalsOf(model.graph, new Sources(model.graph), options.names ?? {}),
  )
    .filter(({ uses }) => !uses.some(({ node, input }) => whole.has(useKey(node, input))))
    .map((candidate) => ranked(candidate, spec));
  const todo = "Name targets, or tensors to save";
  demand(
    modules.length + saved.length > 0,
    () => new Fault("bad-input", "adapter", { expected: "something to train", got: "nothing", todo }),
  );
  return assemble(model, { modules, saved });
}

/** A module asked for by name is not to be trained by its bias alone; `*` takes what there is. */
function checkWhole(patterns: readonly string[], { candidates, saveables }: Offer): void {
  for (const pattern of patterns.filter((name) => !name.includes("*"))) {
    for (const candidate of candidates) {
      const names = [candidate.module, `${candidate.module}.weight`];
      const refusal = names.some((name) => matches(pattern, name)) && wholeRefusal(candidate, saveables);
      if (refusal) throw refusal;
    }
  }
}

/** Everything of a base model that an adapter may name. */
export function offerOf({ graph }: Model, { names: given = {} }: ResolveOptions = {}): Offer {
  const sources = new Sources(graph);
  const candidates = candidatesOf(graph, sources, given);
  return { candidates, saveables: saveablesOf(graph, sources, { candidates, given }) };
}

/**
 * Modules and saved tensors as a resolved adapter: names checked to be distinct, tensors in the flat
 * vector's order.
 */
export function assemble(
  model: Model,
  parts: { readonly modules: readonly AdaptedModule[]; readonly saved: readonly SavedTensor[] },
): ResolvedAdapter {
  const factors = parts.modules.flatMap(factorSpecs);
  const tensors = [...factors, ...parts.saved.map(({ name, shape }) => ({ name, shape }))];
  layoutOf(tensors);
  return { baseSha256: sha256Hex(model.bytes), ...parts, tensors };
}

/** alpha/rank (Hu et al. 2021, section 4.1), or alpha/√rank. */
export function scaleOf({ rank, alpha, rslora }: { rank: number; alpha: number; rslora: boolean }): number {
  return alpha / (rslora ? Math.sqrt(rank) : rank);
}

function checkSpec(spec: AdapterSpec): void {
  const { rankPattern = {}, alphaPattern = {} } = spec;
  for (const rank of [spec.rank, ...Object.values(rankPattern)])
    checkInteger("adapter rank", rank, [1, 4096]);
  for (const alpha of [spec.alpha, ...Object.values(alphaPattern)]) {
    const got = `${alpha}`;
    demand(
      Number.isFinite(alpha) && alpha > 0,
      () => new Fault("bad-input", "adapter alpha", { expected: "a number above 0", got }),
    );
  }
}

function chosen(
  { targets }: AdapterSpec,
  candidates: readonly Candidate[],
  refusals: () => ReturnType<typeof refusalsOf>,
): readonly Candidate[] {
  const names = candidates.map(({ module }) => module);
  if (targets !== "all-linear") {
    return select(candidates, targets, {
      names: ({ module }) => [module],
      missing(pattern) {
        const refused = refusals().find(({ module }) => matches(pattern, module));
        if (!refused) return missing("target", pattern, names);
        const todo = "Train it whole (`save`, --save), or leave it out";
        throw new Fault("unsupported", `adapter target "${refused.module}"`, { got: refused.because, todo });
      },
    });
  }
  const linear = candidates.filter(({ kind }) => kind === "linear");
  return linear.length > 0 ? linear : missing("target", "all-linear", names);
}

function ranked(candidate: Candidate, spec: AdapterSpec): AdaptedModule {
  const rank = patterned(spec.rankPattern, candidate.module) ?? spec.rank;
  const alpha = patterned(spec.alphaPattern, candidate.module) ?? spec.alpha;
  return { ...candidate, rank, alpha, scale: scaleOf({ rank, alpha, rslora: spec.rslora ?? false }) };
}

function patterned(patterns: Readonly<Record<string, number>> = {}, module: string): number | undefined {
  return Object.entries(patterns).find(([pattern]) => matches(pattern, module))?.[1];
}

/** A saved tensor answers to its own name and to its module's. */
function savedNames({ name }: SavedTensor): readonly string[] {
  const module = moduleOfTensor(name);
  return module === undefined ? [name] : [name, module];
}

const SHOWN = 20;

function missing(what: string, pattern: string, names: readonly string[]): never {
  const more = names.length > SHOWN ? `, and ${names.length - SHOWN} more` : "";
  throw new Fault("not-found", `adapter ${what} "${pattern}"`, {
    expected:
      names.length > 0 ? `one of ${names.slice(0, SHOWN).join(", ")}${more}` : "a model with such weights",
    got: "no match",
  });
}
