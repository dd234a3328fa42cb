import { recordOf } from "@tutti/adapter/file/rewrite";
import type { Loaded } from "@tutti/adapter/formats/peft-bind";
import { mergeFiles } from "@tutti/adapter/merge";
import { unmerge } from "@tutti/adapter/unmerge";
import { sha256Hex } from "@tutti/foundation/hash";
import { Command } from "commander";
import { withContext } from "../../action.ts";
import { type ModelFile, openModel, openModelBytes } from "../../model-file.ts";
import { modelFiles, writeAll } from "../../write.ts";
import { bindAdapter, type Opened, openAdapter, openBoth } from "./open.ts";
import { type HeadOptions, headOptions, type NameOptions, nameOptions } from "./options.ts";

type Options = HeadOptions & NameOptions & { base?: string; force?: boolean };

export function mergeCommand(): Command {
  const command = new Command("merge")
    .description("Add an adapter to its base's weights: W += scale·BA, every other byte as it was.")
    .argument("<base>", "the base model, ONNX")
    .argument("<adapter>", "PEFT folder, .safetensors, .gguf or .onnx_adapter file")
    .argument("<out>", "where to write the merged model; a base's weight files go beside it")
    .option("--force", "replace what is there");
  return headOptions(nameOptions(command)).action(
    (basePath: string, adapterPath: string, outPath: string, options: Options) =>
      withContext(command, async ({ output }) => {
        const { base, opened } = await openBoth(basePath, adapterPath, options);
        const { adapter, tensors } = await bindAdapter(opened, base, options);
        const { model, external } = mergeFiles(base.bytes, adapter, tensors, base);
        const files = modelFiles(outPath, model, { base, changed: external });
        await writeAll(files, options);
        const sha256 = sha256Hex(model);
        output.result(
          {
            out: outPath,
            sha256,
            bytes: model.length,
            baseSha256: adapter.baseSha256,
            files: [...files.keys()],
          },
          `wrote ${outPath}, SHA-256 ${sha256}`,
        );
      }),
  );
}

export function unmergeCommand(): Command {
  const command = new Command("unmerge")
    .description("Take an adapter out of a merged model: W −= scale·BA, exact only with --base.")
    .argument("<merged>", "the merged model, ONNX")
    .argument("<adapter>", "the adapter that was merged")
    .argument("<out>", "where to write the model without it")
    .option("--base <file>", "the base: then it comes back byte for byte, and the merge is checked")
    .option("--force", "replace what is there");
  return headOptions(nameOptions(command)).action(
    (mergedPath: string, adapterPath: string, outPath: string, options: Options) =>
      withContext(command, async ({ output }) => {
        const opened = await openAdapter(adapterPath, options);
        const merged = await openModel(mergedPath);
        const base = options.base === undefined ? undefined : await openModel(options.base);
        const { adapter, tensors } = await (base
          ? bindAdapter(opened, base, options)
          : bindToMerged(opened, merged, options));
        const { external } = merged;
        const known = base ? { external, base: base.bytes, baseExternal: base.external } : { external };
        const found = unmerge(merged.bytes, adapter, tensors, known);
        const { model, exact, bound } = found;
        const beside = base ? base.beside : found.external;
        await writeAll(modelFiles(outPath, model, { base: merged, changed: beside }), options);
        const sha256 = sha256Hex(model);
        output.result(
          { out: outPath, sha256, exact, bound },
          `wrote ${outPath}, ${exact ? "the base byte for byte" : `weights within ${bound} of the base's`}`,
        );
      }),
  );
}

/** A merge may have added copies of shared weights; the adapter belongs to the file without them. */
async function bindToMerged(opened: Opened, merged: ModelFile, options: NameOptions): Promise<Loaded> {
  const found = recordOf(merged.bytes);
  if (found?.record.kind !== "merged") return bindAdapter(opened, merged, options);
  const { adapter, tensors } = await bindAdapter(
    opened,
    openModelBytes(merged.path, found.restored()),
    options,
  );
  return { adapter: { ...adapter, baseSha256: found.record.baseSha256 }, tensors };
}
