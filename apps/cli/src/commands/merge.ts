import { rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { merge } from "@tutti/adapter/merge";
import { fromPeft } from "@tutti/adapter/peft";
import { sha256Hex } from "@tutti/foundation/hash";
import { read } from "@tutti/graph/read";
import { Command } from "commander";
import { withContext } from "../action.ts";
import { readOrSay } from "../prepare.ts";

type Options = { base: string; adapter: string; out: string };

export function mergeCommand(): Command {
  return new Command("merge")
    .description("Merge a PEFT adapter into its base model: W += (alpha/r)·BA, every other byte as it was.")
    .requiredOption("--base <file>", "the base model, ONNX")
    .requiredOption("--adapter <folder>", "PEFT folder: adapter_config.json and adapter_model.safetensors")
    .requiredOption("--out <file>", "where to write the merged model")
    .action((options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const base = await readOrSay(options.base, "base model");
        const config = await readOrSay(join(options.adapter, "adapter_config.json"), "adapter config");
        const weights = await readOrSay(
          join(options.adapter, "adapter_model.safetensors"),
          "adapter weights",
        );
        const { adapter, tensors } = fromPeft(new TextDecoder().decode(config), weights, read(base));
        const merged = merge(base, adapter, tensors);
        await writeWhole(options.out, merged);
        const sha256 = sha256Hex(merged);
        output.result(
          { out: options.out, sha256, bytes: merged.length },
          `wrote ${options.out}, SHA-256 ${sha256}`,
        );
      }),
    );
}

/** The whole file or none: written beside its place, then moved there. */
async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const beside = join(dirname(path), `.${process.pid}.tmp`);
  await writeFile(beside, bytes);
  await rename(beside, path);
}
