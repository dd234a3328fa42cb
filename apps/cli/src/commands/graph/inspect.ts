import { refusalsOf } from "@tutti/adapter/find/candidates";
import { Sources } from "@tutti/adapter/find/sources";
import { type Mergeable, mergeRefusals } from "@tutti/adapter/merge";
import { offerOf, resolve } from "@tutti/adapter/resolve";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { barriers, type Inspection, inspect } from "@tutti/graph/inspect";
import { sizeOf, type ValueInfo } from "@tutti/graph/ir";
import { constantBytes, peakBytes } from "@tutti/graph/memory";
import type { Model } from "@tutti/graph/read";
import { trace } from "@tutti/graph/trace";
import { widened } from "@tutti/graph/widen";
import { Command } from "commander";
import { withContext } from "../../action.ts";
import { type ModelFile, openModel } from "../../model-file.ts";
import {
  type AdapterOptions,
  about,
  adapterOptions,
  bindOf,
  fixedBatch,
  type LossChoice,
  lossOf,
  lossOptions,
  type SizeOptions,
  sizeOptions,
  specOf,
} from "./options.ts";
import { derived, type Suggestion, suggestionsOf, typed } from "./step.ts";

type Options = AdapterOptions & SizeOptions & LossChoice;

export function inspectCommand(): Command {
  const command = new Command("inspect")
    .description(
      "Say what a model holds, what of it trains and merges, and what a training step needs of memory.",
    )
    .argument("<model>", "an ONNX file");
  return lossOptions(
    sizeOptions(adapterOptions(command, "default: several choices, each with its cost")),
  ).action((path: string, options: Options) =>
    withContext(command, ({ output }) =>
      about(path, async () => {
        const base = await openModel(path);
        const { bytes, model } = base;
        const facts = { ...inspect(model), sha256: sha256Hex(bytes), ...trainable(base, options) };
        for (const line of linesOf(facts)) output.say(line);
        const { modules, whole } = facts;
        output.result(
          facts,
          `${counted(modules.length, "module")} can take an adapter, ` +
            `${counted(whole.length, "tensor")} can be trained whole (--save)`,
        );
      }),
    ),
  );
}

type Facts = Inspection & { readonly sha256: string } & ReturnType<typeof trainable>;

function trainable(base: ModelFile, options: Options) {
  const { model } = base;
  const { candidates, saveables } = offerOf(model);
  const refused = refusalsOf(model.graph, new Sources(model.graph), {});
  const merges = mergesOf(
    base,
    candidates.map(({ module, weight, ...rest }) => {
      return { ...rest, what: module, tensor: weight };
    }),
  );
  const modules = candidates.map(({ module, kind, in: width, out, weight, shared }, at) => {
    const dtype = model.graph.initializers.get(weight)?.dtype ?? "unknown";
    return { module, kind, in: width, out, dtype, ...merges[at]!, shared };
  });
  const wholeMerges = mergesOf(
    base,
    saveables.map(({ name, initializer, ...rest }) => {
      return { ...rest, what: name, tensor: initializer };
    }),
  );
  const spec = specOf(options);
  // What was asked for by a name that the model lacks is a mistake, as it is for the other commands.
  if (spec) resolve(model, spec);
  const asked: readonly Suggestion[] = spec ? [{ name: "asked", why: "as asked for", spec }] : [];
  const choices = spec ? asked : suggestionsOf({ candidates, saveables });
  return {
    modules,
    whole: saveables.map(({ name, shape }, at) => ({ name, shape, ...wholeMerges[at]! })),
    refused,
    ...traceOf(model, options),
    suggestions: choices.map((choice) => {
      return { ...costOf(model, choice, options), options: typed(choice.spec, { candidates, saveables }) };
    }),
  };
}

/**
 * Whether a merge would change each of these tensors, asked of what merges. An adapter for one that it
 * refuses is attached beside the base.
 */
function mergesOf({ bytes, external }: ModelFile, wanted: readonly Mergeable[]) {
  return mergeRefusals(bytes, wanted, { external }).map((because) =>
    because ? ({ merge: "attach", because: because.message } as const) : ({ merge: "merge" } as const),
  );
}

/** What the model's own graph says once sizes are bound, or why they cannot be. */
function traceOf(model: Model, options: Options) {
  const bind = bindOf(model.graph, options);
  try {
    return { barriers: barriers(trace(widened(model.graph), bind)) };
  } catch (error) {
    return { barriers: [], untraced: reasonOf(error) };
  }
}

/** What a choice costs: how large its adapter is (`bytes`, of float32), and bytes held while a step runs. */
function costOf(model: Model, { name, why, spec }: Suggestion, options: Options) {
  const { rank, alpha = 2 * rank } = options;
  const targets = spec.targets;
  const base = { name, why, targets, ...(spec.save && { save: spec.save }), rank, alpha };
  const at = (batch: number) => {
    const bind = bindOf(model.graph, { ...options, batch });
    const { adapter, step } = derived(model, {
      adapter: { ...spec, rank, alpha },
      bind,
      loss: lossOf(options),
    });
    const parameters = adapter.tensors.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    return { parameters, memory: { batch, stepBytes: peakBytes(step), constantBytes: constantBytes(step) } };
  };
  try {
    const fixed = fixedBatch(model.graph, options);
    const batches = fixed === undefined ? [...new Set([1, options.batch])].map(at) : [at(fixed)];
    const { parameters } = batches[0]!;
    const memory = batches.map((one) => one.memory);
    return { ...base, parameters, bytes: 4 * parameters, batchFixed: fixed !== undefined, memory };
  } catch (error) {
    return { ...base, impossible: reasonOf(error) };
  }
}

/** A Fault is an answer here; a bug is not. */
function reasonOf(error: unknown): string {
  if (error instanceof Fault) return error.message;
  throw error;
}

function linesOf(facts: Facts): readonly string[] {
  const { irVersion, opset, domains, producer, operators, quantised, modules, refused } = facts;
  const versions = [
    `IR ${irVersion}`,
    `opset ${opset}`,
    ...Object.entries(domains).map((it) => it.join(" ")),
  ];
  const counts = Object.entries(operators).map(([op, count]) => `${op} ${count}`);
  return [
    [...versions, producer && `by ${producer}`].filter(Boolean).join(", "),
    ...facts.inputs.map((info) => `input  ${shown(info)}`),
    ...facts.outputs.map((info) => `output ${shown(info)}`),
    `${counted(facts.nodes, "node")}: ${counts.join(", ")}`,
    `${counted(facts.parameters, "parameter")}, ${sized(facts.bytes)} of constants: ${typesOf(facts)}`,
    ...(quantised.operators.length > 0 ? [`quantised: ${quantised.operators.join(", ")}`] : []),
    "",
    ...modules.map(
      ({ module, kind, in: width, out, dtype, merge, shared }) =>
        `  ${module}: ${kind}, ${width} to ${out}, ${dtype}, ${merge}${shared ? ", weight shared" : ""}`,
    ),
    ...refused.map(({ module, because }) => `  ${module}: no adapter: ${because}`),
    ...facts.whole.map(
      ({ name, shape, merge }) => `  ${name}: whole (--save), [${shape.join(", ")}], ${merge}`,
    ),
    ...("untraced" in facts ? [`cannot be traced: ${facts.untraced}`] : []),
    ...facts.barriers.map(({ node, because }) => `no gradient passes ${node}: ${because}`),
    "",
    ...facts.suggestions.map(suggestionLine),
  ];
}

function suggestionLine(one: Facts["suggestions"][number]): string {
  const head = `train ${one.name} (${one.why}), ${one.options} --rank ${one.rank}`;
  if ("impossible" in one) return `${head}: not possible: ${one.impossible}`;
  const memory = one.memory.map(({ batch, stepBytes, constantBytes }) => {
    const held = sized(stepBytes + constantBytes);
    return one.batchFixed ? `${held} (batch ${batch}, fixed by the model)` : `${held} at batch ${batch}`;
  });
  const adapter = `${counted(one.parameters, "parameter")}, ${sized(one.bytes)}`;
  return `${head}: ${adapter}; a step holds ${memory.join(", ")}`;
}

function shown({ name, dtype, shape }: ValueInfo): string {
  return `${name}: ${dtype} ${shape ? `[${shape.map((size) => size ?? "?").join(", ")}]` : "of any shape"}`;
}

function typesOf({ dtypes }: Facts): string {
  const types = Object.entries(dtypes).map(([dtype, { tensors, elements }]) => {
    return `${dtype} ${counted(tensors, "tensor")} with ${counted(elements, "element")}`;
  });
  return types.join(", ") || "none";
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

const UNITS = ["bytes", "kB", "MB", "GB"] as const;

/** Three digits. What would round to a thousand of a unit is one of the next. */
function sized(bytes: number): string {
  if (bytes < 1000) return counted(bytes, "byte");
  let power = 1;
  while (power < UNITS.length - 1 && bytes >= 999.5 * 1000 ** power) power++;
  const value = bytes / 1000 ** power;
  return `${value < 999.5 ? value.toPrecision(3) : Math.round(value)} ${UNITS[power]}`;
}
