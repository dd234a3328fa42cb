import type { Model } from "@tutti/graph/read";
import type { ResolvedAdapter } from "../spec.ts";
import { type PeftFiles, readPeft, writePeft } from "./peft-adapter.ts";
import { type BindOptions, bind, type Loaded, type UnbindOptions, unbind } from "./peft-bind.ts";

export type { PeftFiles } from "./peft-adapter.ts";
export type { Loaded } from "./peft-bind.ts";
export type ToPeftOptions = UnbindOptions;
export type FromPeftOptions = BindOptions;

/**
 * The adapter as PEFT files. Saved tensors take torch's orientation, [out, in] for linear weights.
 * @throws Fault("bad-input") for a name without the wrapper's prefix; Fault("unsupported") for a saved
 * tensor of no module, which PEFT has no place for.
 */
export function toPeft(
  adapter: ResolvedAdapter,
  tensors: ReadonlyMap<string, Float32Array>,
  options: ToPeftOptions = {},
): PeftFiles {
  return writePeft(unbind(adapter, tensors, options));
}

/**
 * PEFT files bound to a base model. A prefix may differ between PEFT's module names and the graph's.
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
  return bind(readPeft(config, weights), model, options);
}
