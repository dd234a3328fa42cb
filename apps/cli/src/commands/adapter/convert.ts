import { extname, join } from "node:path";
import { PEFT_CONFIG, PEFT_WEIGHTS } from "@tutti/adapter/formats/format";
import { toGguf } from "@tutti/adapter/formats/gguf-lora";
import { ARCHITECTURES, type Architecture } from "@tutti/adapter/formats/gguf-names";
import { toAttachedOnnxAdapter, toOnnxAdapter } from "@tutti/adapter/formats/onnx-adapter-lora";
import { type PeftAdapter, writePeft } from "@tutti/adapter/formats/peft-adapter";
import { type Loaded, unbind } from "@tutti/adapter/formats/peft-bind";
import { unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { Command, Option } from "commander";
import { withContext } from "../../action.ts";
import { openModel } from "../../model-file.ts";
import { writeAll } from "../../write.ts";
import { bindAdapter, type Opened, openAdapter } from "./open.ts";
import { type HeadOptions, headOptions, type NameOptions, nameOptions } from "./options.ts";

const TARGETS = ["peft", "gguf", "onnx_adapter"] as const;
type Target = (typeof TARGETS)[number];

type Options = HeadOptions &
  NameOptions & {
    to?: Target;
    base?: string;
    arch?: Architecture;
    dtype: "f32" | "f16";
    force?: boolean;
  };

export function convertCommand(): Command {
  const command = new Command("convert")
    .description("Write an adapter in another format. A folder is PEFT's; .gguf and .onnx_adapter are files.")
    .argument("<in>", "PEFT folder, .safetensors, .gguf or .onnx_adapter file")
    .argument("<out>", "where to write it")
    .addOption(new Option("--to <format>", "the format, where the ending does not tell").choices(TARGETS))
    .option(
      "--base <file>",
      "check that it fits this ONNX model; an .onnx_adapter is then laid out for `tutti adapter attach`, " +
        "and PEFT made of GGUF takes the model's module names",
    )
    .addOption(new Option("--arch <name>", "architecture of the GGUF base").choices(ARCHITECTURES))
    .addOption(new Option("--dtype <type>", "type of the values").choices(["f32", "f16"]).default("f32"))
    .option("--force", "replace what is there");
  return headOptions(nameOptions(command)).action((adapterPath: string, outPath: string, options: Options) =>
    withContext(command, async ({ output }) => {
      const opened = await openAdapter(adapterPath, options);
      const base = options.base === undefined ? undefined : await openModel(options.base);
      const fitted = base && (await bindAdapter(opened, base, options));
      const to = options.to ?? targetOf(outPath);
      if (to === "peft" && opened.format === "gguf" && !base)
        output.say("GGUF keeps no prefix of module names: give --base to write those of the base");
      const files = new Map(
        contentOf(opened, { ...options, to, fitted }).map(([name, content]) => [
          name === "" ? outPath : join(outPath, name),
          content,
        ]),
      );
      await writeAll(files, options);
      const written = [...files.keys()];
      output.result(
        { from: opened.format, to, files: written, modules: opened.peft.modules.length },
        `wrote ${written.join(" and ")}: ${opened.peft.modules.length} modules, ${opened.format} to ${to}`,
      );
    }),
  );
}

/** @throws Fault("bad-input") for an ending that is none of ours: a folder of that name is rarely meant. */
function targetOf(outPath: string): Target {
  const ending = outPath.endsWith("/") ? "" : extname(outPath);
  if (ending === ".gguf") return "gguf";
  if (ending === ".onnx_adapter") return "onnx_adapter";
  if (ending === "") return "peft";
  const todo = "Name the format with --to; --to peft writes a folder of that name";
  throw new Fault("bad-input", outPath, { expected: "a folder, .gguf or .onnx_adapter", got: ending, todo });
}

type Wanted = Omit<Options, "base" | "to"> & { readonly to: Target; readonly fitted: Loaded | undefined };
type Content = readonly (readonly [string, Uint8Array | string])[];

/** The files of the converted adapter: by name inside a folder, or "" for one file. */
function contentOf(opened: Opened, { to, fitted, arch, dtype: type, heads, kvHeads }: Wanted): Content {
  const dtype = type === "f16" ? "F16" : "F32";
  switch (to) {
    case "peft": {
      refuseHalves(dtype, "PEFT's tensors are written as float32");
      const { config, weights } = writePeft(namedAsBase(opened, fitted));
      return [
        [PEFT_CONFIG, config],
        [PEFT_WEIGHTS, weights],
      ];
    }
    case "gguf":
      return [["", toGguf(opened.peft, { arch: archOf(arch), dtype, heads, kvHeads })]];
    case "onnx_adapter":
      if (!fitted) return [["", toOnnxAdapter(opened.peft, { dtype })]];
      refuseHalves(dtype, "the inputs of an attached model are float32");
      return [["", toAttachedOnnxAdapter(fitted.adapter, fitted.tensors)]];
    default:
      return unreachable(to);
  }
}

/** GGUF keeps no prefix, and .onnx_adapter not torch's orientation of whole tensors: the base tells both. */
function namedAsBase({ format, peft }: Opened, fitted: Loaded | undefined): PeftAdapter {
  if (!fitted || (format !== "gguf" && format !== "onnx_adapter")) return peft;
  return unbind(fitted.adapter, fitted.tensors);
}

function archOf(arch: Architecture | undefined): Architecture {
  if (arch !== undefined) return arch;
  const todo = "Its names for weights depend on it";
  throw new Fault("bad-input", "GGUF", { expected: `--arch ${ARCHITECTURES.join("|")}`, got: "none", todo });
}

function refuseHalves(dtype: "F32" | "F16", why: string): void {
  if (dtype === "F16") throw new Fault("unsupported", "--dtype f16", { expected: "f32", todo: why });
}
