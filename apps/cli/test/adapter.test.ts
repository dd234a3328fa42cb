import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { toPeft } from "@tutti/adapter/formats/peft";
import { writeTensors } from "@tutti/adapter/formats/safetensors";
import { merge } from "@tutti/adapter/merge";
import { resolve } from "@tutti/adapter/resolve";
import { seededRandom } from "@tutti/foundation/random";
import { sizeOf } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { read } from "@tutti/graph/read";
import { write } from "@tutti/graph/write";
import { create, encode } from "@tutti/wire/message";
import { ModelProtoSchema, TensorProto_DataLocation } from "@tutti/wire/onnx";
import { Command } from "commander";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { adapterCommand } from "../src/commands/adapter/adapter.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-adapter-"));
afterAll(() => rm(home, { recursive: true, force: true }));

/** A model of Hugging Face's names, so that GGUF has names for it too. */
const base = renamed(write(mlp({ inputs: 6, hidden: [8], outputs: 4, random: seededRandom(1) })));
const model = read(base);
const adapter = resolve(model, { rank: 2, alpha: 6, targets: "all-linear" });
const dice = seededRandom("cli");
const tensors = new Map(
  adapter.tensors.map(({ name, shape }) => [name, Float32Array.from({ length: sizeOf(shape) }, dice.normal)]),
);

function renamed(bytes: Uint8Array): Uint8Array {
  const { proto } = read(bytes);
  const names = ["up_proj", "down_proj"].map((name) => `model.layers.0.mlp.${name}`);
  const weights = proto.graph!.initializer.filter(({ dims }) => dims.length === 2);
  for (const [i, weight] of weights.entries()) {
    for (const node of proto.graph!.node)
      node.input = node.input.map((name) => (name === weight.name ? `${names[i]}.weight` : name));
    for (const node of proto.graph!.node.filter(({ input }) => input.includes(`${names[i]}.weight`)))
      node.name = "";
    weight.name = `${names[i]}.weight`;
  }
  return encode(ModelProtoSchema, create(ModelProtoSchema, proto));
}

let folder: string;
const at = (...path: string[]) => join(folder, ...path);
beforeEach(async () => {
  folder = mkdtempSync(join(home, "case-"));
  const { config, weights } = toPeft(adapter, tensors);
  await mkdir(at("peft"));
  writeFileSync(at("peft", "adapter_config.json"), config);
  writeFileSync(at("peft", "adapter_model.safetensors"), weights);
  writeFileSync(at("base.onnx"), base);
});

type Said = Readonly<Record<string, unknown>>;

/** Runs `tutti --json adapter …` in this process; its JSON, or the Fault it throws. */
async function adapterJson(...args: string[]): Promise<Said> {
  const lines: string[] = [];
  const spies = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, "write").mockImplementation((chunk) => {
      if (stream === process.stdout) lines.push(String(chunk));
      return true;
    }),
  );
  const root = new Command("tutti").option("--json").exitOverride().addCommand(adapterCommand());
  try {
    await root.parseAsync(["node", "tutti", "--json", "adapter", ...args]);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return JSON.parse(lines.at(-1)!) as Said;
}

const file = (...path: string[]) => new Uint8Array(readFileSync(at(...path)));
const NAMES = ["model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"];

describe("inspect", () => {
  test("says what an adapter is, and that it fits a base", async () => {
    const said = await adapterJson("inspect", at("peft"), "--base", at("base.onnx"));
    expect(said).toMatchObject({ format: "peft", ranks: [2], alphas: [6], scales: [3], dtypes: ["F32"] });
    expect(said).toMatchObject({ parameters: 2 * (6 + 8) + 2 * (8 + 4), baseSha256: adapter.baseSha256 });
    expect((said.targets as { name: string }[]).map(({ name }) => name)).toEqual(NAMES);
  });

  test("a file without an alpha can be looked at", async () => {
    writeFileSync(at("own.safetensors"), writeTensors(adapter.tensors, tensors));
    expect(await adapterJson("inspect", at("own.safetensors"))).toMatchObject({
      format: "tutti",
      alphas: null,
    });
    expect(await adapterJson("inspect", at("own.safetensors"), "--alpha", "6")).toMatchObject({
      scales: [3],
    });
  });

  test.each([
    ["nothing there", "gone", /gone: expected a file or folder/],
    ["a folder of no adapter", ".", /expected a folder with adapter_config\.json/],
    ["a model", "base.onnx", /base\.onnx: format: expected a PEFT folder, .* got another/],
    ["a cut file", "peft/adapter_config.json", /format: expected/],
  ])("inspect refuses %s and says why", async (_, path, message) => {
    await expect(adapterJson("inspect", at(path))).rejects.toThrow(message);
  });

  test("a pickled adapter is refused", async () => {
    writeFileSync(at("adapter.bin"), Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0));
    await expect(adapterJson("inspect", at("adapter.bin"))).rejects.toThrow(/pickled \.bin, which can run/);
  });
});

describe("wrong files", () => {
  test("a base that is none is said for what it is", async () => {
    const before = readdirSync(folder).sort();
    await adapterJson("convert", at("peft"), at("sub", "a.gguf"), "--arch", "qwen2");
    writeFileSync(at("sub", "README.md"), "# Not a model\n");
    writeFileSync(at("sub", "empty"), "");
    writeFileSync(at("sub", "cut.onnx"), base.subarray(0, base.length - 7));
    const tries: readonly (readonly [string, RegExp])[] = [
      [at("sub", "README.md"), /README\.md: expected an ONNX model, got text/],
      [at("sub", "empty"), /got an empty file/],
      [at("sub", "cut.onnx"), /got other bytes, or part of one/],
      [at("sub", "a.gguf"), /got a GGUF file.*Are base and adapter swapped\?/],
      [at("peft"), /got the folder of a PEFT adapter\. Are base and adapter swapped\?/],
      [at("peft", "adapter_model.safetensors"), /got safetensors.*swapped\?/],
    ];
    for (const verb of ["merge", "attach"])
      for (const [path, message] of tries)
        await expect(adapterJson(verb, path, at("base.onnx"), at("x.onnx")), path).rejects.toMatchObject({
          code: "bad-input",
          message: expect.stringMatching(message),
        });
    await expect(adapterJson("merge", at("gone"), at("peft"), at("x"))).rejects.toThrow(
      /model .*gone: .*nothing there/,
    );
    expect(
      readdirSync(folder)
        .filter((name) => name !== "sub")
        .sort(),
    ).toEqual(before);
  });
});

describe("convert", () => {
  test("PEFT made of GGUF has the base's module names with --base", async () => {
    const wrapped = at("wrapped.onnx");
    const { proto } = read(base);
    for (const weight of proto.graph!.initializer)
      if (weight.name.startsWith("model.")) {
        const name = `wrapper.${weight.name}`;
        for (const node of proto.graph!.node)
          node.input = node.input.map((one) => (one === weight.name ? name : one));
        weight.name = name;
      }
    writeFileSync(wrapped, encode(ModelProtoSchema, create(ModelProtoSchema, proto)));
    await adapterJson("convert", at("peft"), at("a.gguf"), "--arch", "qwen2");
    const names = async (path: string) => {
      const { targets } = await adapterJson("inspect", path);
      return (targets as { name: string }[]).map(({ name }) => name);
    };
    await adapterJson("convert", at("a.gguf"), at("plain"));
    await adapterJson("convert", at("a.gguf"), at("full"), "--base", wrapped);
    expect(await names(at("full"))).toEqual(NAMES.map((name) => `wrapper.${name}`));
    expect(await names(at("plain"))).not.toEqual(await names(at("full")));
    await adapterJson("merge", wrapped, at("full"), at("m.onnx"));
  });

  test("PEFT to GGUF to onnx_adapter to PEFT keeps the merged model", async () => {
    await adapterJson("convert", at("peft"), at("a.gguf"), "--arch", "qwen2");
    await adapterJson("convert", at("a.gguf"), at("b.onnx_adapter"));
    await adapterJson("convert", at("b.onnx_adapter"), at("again"));
    for (const path of ["peft", "a.gguf", "again"]) {
      await adapterJson("merge", at("base.onnx"), at(path), at("merged", `${path}.onnx`));
    }
    expect(file("merged", "a.gguf.onnx")).toEqual(merge(base, adapter, tensors));
    const [weights, again] = ["peft.onnx", "again.onnx"].map((name) => {
      return [...read(file("merged", name)).graph.initializers.values()].flatMap((t) =>
        [...t.data].map(Number),
      );
    }) as [number[], number[]];
    weights.forEach((value, i) => void expect(Math.abs(value - again[i]!)).toBeLessThan(1e-5));
  });

  test("refusals leave nothing behind", async () => {
    const before = readdirSync(folder).sort();
    const tries: readonly (readonly [readonly string[], RegExp])[] = [
      [[at("peft"), at("a.gguf")], /expected --arch llama\|qwen2/],
      [[at("peft"), at("a.gguf"), "--arch", "gpt2"], /GGUF name of model\.layers\.0\.mlp\.up_proj/],
      [[at("peft"), at("a"), "--dtype", "f16"], /PEFT's tensors are written as float32/],
      [[at("peft"), at("peft")], /adapter_config\.json: expected a new file/],
      [[at("gone"), at("a")], /gone/],
      [[at("peft"), at("a.foo")], /a\.foo: expected a folder, \.gguf or .*, got \.foo\. .*--to/],
    ];
    for (const [args, message] of tries)
      await expect(adapterJson("convert", ...args)).rejects.toThrow(message);
    expect(readdirSync(folder).sort()).toEqual(before);
  });

  test("--force replaces what is there", async () => {
    await adapterJson("convert", at("peft"), at("a.gguf"), "--arch", "qwen2");
    await adapterJson("convert", at("peft"), at("a.gguf"), "--arch", "llama", "--force");
    expect(await adapterJson("inspect", at("a.gguf"))).toMatchObject({ format: "gguf" });
  });
});

describe("merge, unmerge, attach, detach", () => {
  test("merging writes the library's file; unmerge with the base and detach give the base back", async () => {
    const said = await adapterJson("merge", at("base.onnx"), at("peft"), at("merged.onnx"));
    expect(file("merged.onnx")).toEqual(merge(base, adapter, tensors));
    expect(said).toMatchObject({ baseSha256: adapter.baseSha256 });
    await adapterJson("unmerge", at("merged.onnx"), at("peft"), at("1.onnx"), "--base", at("base.onnx"));
    expect(file("1.onnx")).toEqual(base);
    expect(await adapterJson("unmerge", at("merged.onnx"), at("peft"), at("2.onnx"))).toHaveProperty("bound");
    await adapterJson("attach", at("base.onnx"), at("peft"), at("attached.onnx"));
    expect(existsSync(at("attached.onnx_adapter"))).toBe(true);
    await adapterJson("detach", at("attached.onnx"), at("3.onnx"));
    expect(file("3.onnx")).toEqual(base);
  });

  test("tensors trained whole that attach writes are read again and attach the same", async () => {
    const saving = resolve(model, { rank: 2, alpha: 6, targets: [NAMES[0]!], save: [NAMES[1]!] });
    const values = new Map(
      saving.tensors.map(({ name, shape }) => [
        name,
        Float32Array.from({ length: sizeOf(shape) }, dice.normal),
      ]),
    );
    const { config, weights } = toPeft(saving, values);
    writeFileSync(at("peft", "adapter_config.json"), config);
    writeFileSync(at("peft", "adapter_model.safetensors"), weights);
    await adapterJson("attach", at("base.onnx"), at("peft"), at("a.onnx"));
    const { whole } = await adapterJson("inspect", at("a.onnx_adapter"), "--base", at("base.onnx"));
    expect((whole as { name: string }[]).map(({ name }) => name)).toContain(`${NAMES[1]}.weight`);
    await adapterJson("attach", at("base.onnx"), at("a.onnx_adapter"), at("b.onnx"));
    expect(file("b.onnx_adapter")).toEqual(file("a.onnx_adapter"));
    await expect(adapterJson("convert", at("a.onnx_adapter"), at("again"))).rejects.toThrow(/only the base/);
  });

  test("an adapter of another base is one error, and nothing is written", async () => {
    const other = write(mlp({ inputs: 6, hidden: [3], outputs: 4, random: seededRandom(2) }));
    writeFileSync(at("other.onnx"), other);
    const before = readdirSync(folder).sort();
    await expect(adapterJson("merge", at("other.onnx"), at("peft"), at("x.onnx"))).rejects.toThrow(
      /expected model\.layers\.0\.mlp\.up_proj, .* under some prefix/,
    );
    writeFileSync(at("other.onnx"), renamed(other));
    for (const verb of ["merge", "attach"])
      await expect(adapterJson(verb, at("other.onnx"), at("peft"), at("x.onnx"))).rejects.toThrow(
        /up_proj\.lora_B\.weight: expected \[3,2\], got \[8,2\]/,
      );
    expect(readdirSync(folder).sort()).toEqual(before);
  });

  test("names given by hand bind an adapter to a base of other names", async () => {
    const other = write(mlp({ inputs: 6, hidden: [8], outputs: 4, random: seededRandom(1) }));
    writeFileSync(at("other.onnx"), other);
    const nodes = read(other).graph.nodes.filter(({ op }) => op === "Gemm" || op === "MatMul");
    const names = Object.fromEntries(nodes.map((node, i) => [node.outputs[0]!, NAMES[i]!]));
    writeFileSync(at("names.json"), JSON.stringify(names));
    const out = ["merge", at("other.onnx"), at("peft"), at("named.onnx")];
    await expect(adapterJson(...out)).rejects.toThrow(/under some prefix/);
    await adapterJson(...out, "--names", at("names.json"));
    await adapterJson("merge", at("base.onnx"), at("peft"), at("merged.onnx"));
    const values = (path: string) =>
      [...read(file(path)).graph.initializers.values()].map(({ data }) => data);
    expect(values("named.onnx")).toEqual(values("merged.onnx"));
    writeFileSync(at("names.json"), "[1]");
    await expect(adapterJson(...out, "--names", at("names.json"))).rejects.toThrow(/JSON object of strings/);
  });

  test("a base is never written over, forced or not", async () => {
    for (const verb of ["merge", "attach"])
      await expect(
        adapterJson(verb, at("base.onnx"), at("peft"), at("base.onnx"), "--force"),
      ).rejects.toThrow(/another file than the model's own/);
    expect(file("base.onnx")).toEqual(base);
  });
});

describe("weights beside the model", () => {
  /** The base with its weights in `location`; the file lies where `real` says. */
  function outside(location: string): Uint8Array {
    const { proto } = read(base);
    const parts: Uint8Array[] = [];
    let offset = 0;
    for (const tensor of proto.graph!.initializer.filter(({ rawData }) => rawData.length > 0)) {
      parts.push(tensor.rawData);
      const entries = { location, offset: `${offset}`, length: `${tensor.rawData.length}` };
      tensor.externalData = Object.entries(entries).map(([key, value]) => {
        return { $typeName: "onnx.StringStringEntryProto" as const, key, value };
      });
      offset += tensor.rawData.length;
      tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
      tensor.rawData = new Uint8Array();
    }
    writeFileSync(at("ext.onnx"), encode(ModelProtoSchema, create(ModelProtoSchema, proto)));
    return new Uint8Array(Buffer.concat(parts));
  }

  test("are written along, merged or not, into a folder of their own", async () => {
    writeFileSync(at("w.bin"), outside("w.bin"));
    const before = file("w.bin");
    await adapterJson("merge", at("ext.onnx"), at("peft"), at("m", "ext.onnx"));
    await adapterJson("attach", at("ext.onnx"), at("peft"), at("a", "ext.onnx"));
    await adapterJson("detach", at("a", "ext.onnx"), at("d", "ext.onnx"));
    const toBase = ["--base", at("ext.onnx")];
    await adapterJson("unmerge", at("m", "ext.onnx"), at("peft"), at("u", "ext.onnx"), ...toBase);
    expect(file("w.bin")).toEqual(before);
    expect(file("u", "ext.onnx")).toEqual(file("ext.onnx"));
    for (const path of ["a", "d", "u"]) expect(file(path, "w.bin")).toEqual(before);
    expect(file("d", "ext.onnx")).toEqual(file("ext.onnx"));
    const whole = read(merge(base, adapter, tensors)).graph.initializers;
    const got = read(file("m", "ext.onnx"), { externalData: () => file("m", "w.bin") }).graph.initializers;
    for (const [name, { data }] of whole) expect([...got.get(name)!.data], name).toEqual([...data]);
    await expect(adapterJson("merge", at("ext.onnx"), at("peft"), at("x.onnx"))).rejects.toThrow(
      /w\.bin: expected (?:a new|another) file/,
    );
  });

  test.each(["../w.bin", "/etc/hostname", "sub/../../w.bin"])("%s is outside: refused", async (location) => {
    writeFileSync(join(folder, "..", "w.bin"), outside(location));
    await expect(adapterJson("merge", at("ext.onnx"), at("peft"), at("m", "x.onnx"))).rejects.toThrow(
      /weights of .*ext\.onnx: expected/,
    );
    expect(existsSync(at("m"))).toBe(false);
  });

  test("a link that leads out is refused", async () => {
    writeFileSync(join(folder, "..", "w.bin"), outside("w.bin"));
    symlinkSync(join(folder, "..", "w.bin"), at("w.bin"));
    await expect(adapterJson("merge", at("ext.onnx"), at("peft"), at("m", "x.onnx"))).rejects.toThrow(
      /expected a file beside it, got w\.bin/,
    );
  });
});

test("the program itself: help, an exit code, JSON of an error", { timeout: 60_000 }, () => {
  const program = fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url));
  const run = (...args: string[]) => spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
  const help = run("adapter", "convert", "--help");
  expect([help.status, help.stdout]).toEqual([0, expect.stringContaining("--arch <name>")]);
  // What every command takes is in the help of each.
  expect(help.stdout).toContain("--json");
  for (const line of [
    ["run", "list", "--help"],
    ["run", "watch", "--help"],
    ["lst", "--help"],
  ]) {
    const unknown = run(...line);
    expect([unknown.status, unknown.stdout]).toEqual([2, ""]);
    expect(unknown.stderr).toMatch(/unknown command '(list|watch|lst)'; there are: /);
  }
  for (const line of [["help"], ["run", "--help"], ["help", "run"]]) expect(run(...line).status).toBe(0);
  const failed = run("--json", "adapter", "inspect", at("gone"));
  expect([failed.status, failed.stdout]).toEqual([3, ""]);
  expect(JSON.parse(failed.stderr)).toMatchObject({ error: { code: "not-found" } });
});
