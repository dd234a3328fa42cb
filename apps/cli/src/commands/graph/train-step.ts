import type { ResolvedAdapter } from "@tutti/adapter/spec";
import { sha256Hex } from "@tutti/foundation/hash";
import type { TracedGraph, ValueInfo } from "@tutti/graph/ir";
import { LOSS_INPUTS, LOSS_OUTPUTS } from "@tutti/graph/loss";
import { constantBytes, peakBytes } from "@tutti/graph/memory";
import { write } from "@tutti/graph/write";
import { Command } from "commander";
import { withContext } from "../../action.ts";
import { openModel } from "../../model-file.ts";
import { refuseOwn, writeAll } from "../../write.ts";
import {
  type AdapterOptions,
  about,
  adapterOptions,
  bindOf,
  type LossChoice,
  lossOf,
  lossOptions,
  type SizeOptions,
  sayFixedBatch,
  sizeOptions,
} from "./options.ts";
import { derived, specOrFirst } from "./step.ts";

type Options = AdapterOptions & SizeOptions & LossChoice & { export: string; force?: boolean };

export function trainStepCommand(): Command {
  const command = new Command("train-step")
    .description(
      "Write a model's training step as an ONNX graph: the loss, and a gradient for each adapter tensor. " +
        "Beside it, in <file>.json, what its inputs and outputs are.",
    )
    .argument("<model>", "an ONNX file")
    .requiredOption("--export <file>", "where to write the training graph")
    .option("--force", "replace what is there");
  return lossOptions(sizeOptions(adapterOptions(command))).action((path: string, options: Options) =>
    withContext(command, ({ output }) =>
      about(path, async () => {
        const base = await openModel(path);
        const { model } = base;
        const signature = `${options.export}.json`;
        refuseOwn([options.export, signature], base);
        sayFixedBatch(command, model.graph, options);
        const adapter = specOrFirst(model, options);
        const made = derived(model, { adapter, bind: bindOf(model.graph, options), loss: lossOf(options) });
        const bytes = write(made.step);
        const sidecar = { ...signatureOf(made.step, made.adapter), loss: lossOf(options) };
        const files = new Map<string, Uint8Array | string>([[options.export, bytes]]);
        const sha256 = sha256Hex(bytes);
        files.set(signature, `${JSON.stringify({ sha256, ...sidecar }, null, 2)}\n`);
        await writeAll(files, options);
        output.result(
          { out: options.export, signature, sha256, ...sidecar },
          `wrote ${options.export} (${made.step.nodes.length} nodes, ` +
            `${made.adapter.tensors.length} adapter tensors) and ${signature}`,
        );
      }),
    ),
  );
}

type Role = { readonly role: string; readonly of?: string };

/** What each input and output is for: a file of its own, so that no one has to guess from names. */
function signatureOf(step: TracedGraph, adapter: ResolvedAdapter) {
  const tensors = new Set(adapter.tensors.map(({ name }) => name));
  const described = (role: (name: string) => Role) => (info: ValueInfo) => {
    const { dtype, shape } = step.statics.get(info.name)!;
    return { name: info.name, dtype, shape, ...role(info.name) };
  };
  return {
    baseSha256: adapter.baseSha256,
    inputs: step.inputs.map(described((name) => inputRole(name, tensors))),
    outputs: step.outputs.map(described(outputRole)),
    modules: adapter.modules.map(({ module, kind, rank, alpha, scale }) => {
      return { module, kind, rank, alpha, scale };
    }),
    stepBytes: peakBytes(step),
    constantBytes: constantBytes(step),
  };
}

function inputRole(name: string, tensors: ReadonlySet<string>): Role {
  if (tensors.has(name)) return { role: "adapter" };
  return { role: LOSS_INPUTS.some((one) => one === name) ? name : "data" };
}

function outputRole(name: string): Role {
  if (name.startsWith("grad.")) return { role: "gradient", of: name.slice("grad.".length) };
  return { role: LOSS_OUTPUTS.some((one) => one === name) ? name : "model" };
}
