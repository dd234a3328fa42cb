import { attach, attachedBase, detach } from "@tutti/adapter/attach";
import { toAttachedOnnxAdapter } from "@tutti/adapter/formats/onnx-adapter-lora";
import { sha256Hex } from "@tutti/foundation/hash";
import { Command } from "commander";
import { withContext } from "../../action.ts";
import { openModel } from "../../model-file.ts";
import { modelFiles, writeAll } from "../../write.ts";
import { bindAdapter, openBoth } from "./open.ts";
import { type HeadOptions, headOptions, type NameOptions, nameOptions } from "./options.ts";

type Options = HeadOptions & NameOptions & { force?: boolean };

export function attachCommand(): Command {
  const command = new Command("attach")
    .description(
      "Put an adapter's place beside a base, also a quantised one: the model takes the factors as inputs. " +
        "Writes the model, and the adapter to feed it as <out>.onnx_adapter.",
    )
    .argument("<base>", "the base model, ONNX; its weights stay byte for byte")
    .argument("<adapter>", "PEFT folder, .safetensors, .gguf or .onnx_adapter file")
    .argument("<out>", "where to write the model")
    .option("--force", "replace what is there");
  return headOptions(nameOptions(command)).action(
    (basePath: string, adapterPath: string, outPath: string, options: Options) =>
      withContext(command, async ({ output }) => {
        const { base, opened } = await openBoth(basePath, adapterPath, options);
        const { adapter, tensors } = await bindAdapter(opened, base, options);
        const model = attach(base.bytes, adapter);
        const feeds = `${outPath.replace(/\.onnx$/, "")}.onnx_adapter`;
        const files = modelFiles(outPath, model, { base });
        await writeAll([...files, [feeds, toAttachedOnnxAdapter(adapter, tensors)]], options);
        output.result(
          { out: outPath, adapter: feeds, sha256: sha256Hex(model), baseSha256: adapter.baseSha256 },
          `wrote ${outPath} and ${feeds}`,
        );
      }),
  );
}

export function detachCommand(): Command {
  const command = new Command("detach")
    .description("Give back the base that an adapter was attached to, byte for byte.")
    .argument("<attached>", "a model that `tutti adapter attach` wrote")
    .argument("<out>", "where to write the base")
    .option("--force", "replace what is there");
  return command.action((attachedPath: string, outPath: string, options: Options) =>
    withContext(command, async ({ output }) => {
      const attached = await openModel(attachedPath);
      const sha256 = attachedBase(attached.bytes);
      const model = detach(attached.bytes);
      await writeAll(modelFiles(outPath, model, { base: attached }), options);
      output.result({ out: outPath, sha256 }, `wrote ${outPath}, the base with SHA-256 ${sha256}`);
    }),
  );
}
