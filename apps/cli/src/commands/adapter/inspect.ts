import { sha256Hex } from "@tutti/foundation/hash";
import { Command } from "commander";
import { withContext } from "../../action.ts";
import { openModel } from "../../model-file.ts";
import { bindAdapter, type Opened, openAdapter } from "./open.ts";
import { type HeadOptions, headOptions, type NameOptions, nameOptions } from "./options.ts";

type Options = HeadOptions & NameOptions & { base?: string };

export function inspectCommand(): Command {
  const command = new Command("inspect")
    .description("Say what an adapter holds: format, ranks, scale, targets, size.")
    .argument("<path>", "PEFT folder, .safetensors, .gguf or .onnx_adapter file")
    .option("--base <file>", "also check that it fits this ONNX model");
  return headOptions(nameOptions(command)).action((adapterPath: string, options: Options) =>
    withContext(command, async ({ output }) => {
      const opened = await openAdapter(adapterPath, { ...options, look: true });
      const base = options.base === undefined ? undefined : await openModel(options.base);
      if (base) await bindAdapter(opened, base, options);
      const facts = { ...factsOf(opened), ...(base && { baseSha256: sha256Hex(base.bytes) }) };
      for (const line of linesOf(facts)) output.say(line);
      output.result(facts, `${facts.parameters} parameters in ${facts.bytes} bytes`);
    }),
  );
}

type Facts = ReturnType<typeof factsOf> & { readonly baseSha256?: string };

function factsOf({ format, peft: { modules, whole }, bytes, base, bare }: Opened) {
  const tensors = [...modules.flatMap(({ a, b }) => [a, b]), ...whole];
  return {
    format,
    ranks: distinct(modules.map(({ rank }) => rank)),
    alphas: bare ? null : distinct(modules.map(({ alpha }) => alpha)),
    scales: bare ? null : distinct(modules.map(({ scale }) => scale)),
    targets: modules.map(({ name, kind, a, b }) => ({ name, kind, in: a.shape[1]!, out: b.shape[0]! })),
    whole: whole.map(({ name, shape }) => ({ name, shape })),
    dtypes: distinct(tensors.map(({ dtype }) => dtype)),
    parameters: tensors.reduce((sum, { data }) => sum + data.length, 0),
    bytes,
    ...(base !== undefined && { base }),
  };
}

function linesOf(facts: Facts): readonly string[] {
  const { format, ranks, alphas, scales, targets, whole, dtypes, base, baseSha256 } = facts;
  const known = alphas ? `alpha ${alphas.join(", ")}, scale ${scales?.join(", ")}` : "alpha not in the file";
  // The file has no place for a scale: whoever wrote it multiplied B by it.
  const scale = format === "onnx_adapter" ? "scale folded into B" : known;
  return [
    `${format}, ${dtypes.join(" and ")}: rank ${ranks.join(", ") || "none"}, ${scale}`,
    ...targets.map(({ name, kind, in: width, out }) => `  ${name}: ${kind}, ${width} to ${out}`),
    ...whole.map(({ name, shape }) => `  ${name}: whole, [${shape.join(", ")}]`),
    ...(base === undefined ? [] : [`made for ${base}`]),
    ...(baseSha256 === undefined ? [] : [`fits the base with SHA-256 ${baseSha256}`]),
  ];
}

function distinct<T>(values: readonly T[]): readonly T[] {
  return [...new Set(values)];
}
