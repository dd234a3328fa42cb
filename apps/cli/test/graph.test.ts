import { mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "@tutti/foundation/random";
import { float32, type Program, type Tensor } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { transformer } from "@tutti/graph/make/transformer";
import { read } from "@tutti/graph/read";
import { write } from "@tutti/graph/write";
import { create, encode } from "@tutti/wire/message";
import { ModelProtoSchema, TensorProto_DataLocation } from "@tutti/wire/onnx";
import { Command } from "commander";
import * as ort from "onnxruntime-node";
import { afterAll, describe, expect, test, vi } from "vitest";
import { benchCommand } from "../src/commands/bench.ts";
import { graphCommand } from "../src/commands/graph/graph.ts";
import { slopeOf, verdictOf } from "../src/commands/graph/slopes.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-graph-"));
afterAll(() => rm(home, { recursive: true, force: true }));
const at = (name: string) => join(home, name);

const random = seededRandom("cli graph");
writeFileSync(at("mlp.onnx"), write(mlp({ inputs: 6, hidden: [8], outputs: 4, random })));
const text = { layers: 1, width: 8, heads: 2, vocabulary: 20, length: 16, random } as const;
writeFileSync(at("bert.onnx"), write(transformer({ ...text, kind: "encoder", head: { classes: 2 } })));
writeFileSync(at("gpt.onnx"), write(transformer({ ...text, kind: "decoder", head: "tokens" })));

type Said = Readonly<Record<string, unknown>>;

let errors: string[] = [];
/** What the last command wrote to stderr. */
const said = () => errors.join("");

/** Runs `tutti --json …` in this process; its JSON, or the Fault it throws. */
async function json(...args: string[]): Promise<Said> {
  const lines: string[] = [];
  errors = [];
  const spies = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, "write").mockImplementation((chunk) => {
      (stream === process.stdout ? lines : errors).push(String(chunk));
      return true;
    }),
  );
  const root = new Command("tutti").option("--json").exitOverride();
  root.addCommand(graphCommand()).addCommand(benchCommand());
  try {
    await root.parseAsync(["--json", ...args], { from: "user" });
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return JSON.parse(lines.at(-1)!);
}

type Cost = {
  readonly name: string;
  readonly parameters: number;
  readonly memory: readonly { readonly batch: number; readonly stepBytes: number }[];
};

describe("tutti graph inspect", () => {
  test("suggests targets, with sizes of adapters and memory that grows with the batch", async () => {
    const { modules, suggestions } = await json("graph", "inspect", at("bert.onnx"), "--rank", "2");
    expect((modules as { merge: string }[]).every(({ merge }) => merge === "merge")).toBe(true);
    const costs = suggestions as Cost[];
    expect(costs.map(({ name }) => name)).toEqual(["attention", "all-linear", "last"]);
    // Query and value, A [2, 8] and B [8, 2] each.
    expect(costs[0]!.parameters).toBe(64);
    const [one, eight] = costs[0]!.memory;
    expect([one!.batch, eight!.batch]).toEqual([1, 8]);
    expect(eight!.stepBytes).toBeGreaterThan(4 * one!.stepBytes);
  });

  test("says of each weight whether it merges, which its type alone does not tell", async () => {
    const read = (output: string, inputs: readonly string[], op: string, to?: number) => ({
      op,
      domain: "",
      name: `/${output}/${op}`,
      inputs,
      outputs: [output],
      metadata: new Map(),
      attributes: new Map(to === undefined ? [] : [["to", { kind: "int", value: to } as const]]),
    });
    const half = { dtype: "float16", shape: [2, 2], data: Uint16Array.of(0x3c00, 0, 0, 0x3c00) } as const;
    const graph = {
      name: "halves",
      opset: 17,
      outputs: [{ name: "y", dtype: "float32", shape: null }],
      inputs: [{ name: "x", dtype: "float32", shape: [1, 2] }],
      initializers: new Map<string, Tensor>([
        ["w", half],
        ["own", float32([2, 2], new Float32Array(4))],
      ]),
      // Two nodes read w, as floats: neither may change it, and no copy of it can be read as it lies.
      nodes: [
        read("c", ["w"], "Cast", 1),
        read("a", ["x", "c"], "MatMul"),
        read("b", ["a", "c"], "MatMul"),
        read("y", ["b", "own"], "MatMul"),
      ],
    } as const;
    writeFileSync(at("halves.onnx"), write(graph));
    const { modules, whole } = await json("graph", "inspect", at("halves.onnx"));
    type Said = { readonly dtype: string; readonly merge: string; readonly because?: string };
    const said = (modules as Said[]).map(({ dtype, merge }) => `${dtype} ${merge}`);
    expect(said).toEqual(["float16 attach", "float16 attach", "float32 merge"]);
    expect((modules as Said[])[0]!.because).toMatch(/weight w: .*converted on the way/);
    expect((whole as Said[]).map(({ merge }) => merge)).toContain("attach");
  });

  test("says sizes in three digits of their unit, and one of a thing as one", async () => {
    const node = {
      op: "MatMul",
      domain: "",
      name: "fc",
      inputs: ["x", "fc.weight"],
      outputs: ["y"],
      metadata: new Map(),
      attributes: new Map(),
    };
    const sayOf = async (shape: readonly [number, number]) => {
      const weight = float32(shape, new Float32Array(shape[0] * shape[1]));
      const graph = {
        name: "one",
        opset: 17,
        inputs: [{ name: "x", dtype: "float32", shape: [1, shape[0]] }],
        outputs: [{ name: "y", dtype: "float32", shape: null }],
        initializers: new Map([["fc.weight", weight]]),
        nodes: [node],
      } as const;
      writeFileSync(at("one.onnx"), write(graph));
      await json("graph", "inspect", at("one.onnx"));
      return said();
    };
    const large = await sayOf([300, 833]);
    expect(large).toContain("1 node: MatMul 1\n");
    expect(large).toContain("249900 parameters, 1.00 MB of constants: float32 1 tensor with 249900 elements");
    const small = "249 parameters, 996 bytes of constants: float32 1 tensor with 249 elements";
    expect(await sayOf([83, 3])).toContain(small);
    expect(await sayOf([353, 705])).toContain(", 995 kB of constants");
  });

  test("costs what was asked for, at a shape that was given", async () => {
    const args = ["--targets", "classifier", "--shape", "input_ids=3x5"];
    const { suggestions } = await json("graph", "inspect", at("bert.onnx"), ...args);
    expect((suggestions as Cost[]).map(({ name }) => name)).toEqual(["asked"]);
  });

  test("a target that is not there is refused as everywhere, with the names that are", async () => {
    const run = json("graph", "inspect", at("mlp.onnx"), "--targets", "nobody");
    await expect(run).rejects.toMatchObject({
      code: "not-found",
      message: expect.stringMatching(/target "nobody".*one of/),
    });
  });

  test("each suggestion can be typed, and means the same then", async () => {
    const costs = async (...args: string[]) => {
      const { suggestions } = await json("graph", "inspect", at("bert.onnx"), ...args);
      return suggestions as (Cost & { readonly options: string })[];
    };
    const offered = await costs();
    expect(offered[0]!.options).toBe("--targets query,value");
    for (const { options, parameters } of offered) {
      const [asked] = await costs(...options.split(" "));
      expect(asked!.parameters, options).toBe(parameters);
    }
  });

  test("where the model fixes its batch, that is the batch, and other sizes are refused", async () => {
    const graph = mlp({ inputs: 6, hidden: [8], outputs: 4, random });
    const [x] = graph.inputs;
    writeFileSync(at("fixed.onnx"), write({ ...graph, inputs: [{ ...x!, shape: [2, 6] }] }));
    const { suggestions } = await json("graph", "inspect", at("fixed.onnx"), "--batch", "16");
    expect((suggestions as Cost[])[0]!.memory.map(({ batch }) => batch)).toEqual([2]);
    const step = ["graph", "train-step", at("fixed.onnx"), "--export", at("fixed-step.onnx")];
    await json(...step, "--batch", "16");
    expect(said()).toMatch(/--batch has no effect: the model fixes its batch at 2/);
    await json(...step, "--force");
    expect(said()).not.toMatch(/no effect/);
    const shape = (sizes: string) => json(...step, "--force", "--shape", sizes);
    await expect(shape(`${x!.name}=3x6`)).rejects.toThrow(/--shape .*: expected \[2,6\], as .*, got \[3,6\]/);
    await expect(shape("img=2x6")).rejects.toThrow(`no input img; the model has ${x!.name}`);
  });

  test("a file that is no model is refused by path", async () => {
    writeFileSync(at("broken.onnx"), "no model");
    await expect(json("graph", "inspect", at("broken.onnx"))).rejects.toThrow(/broken\.onnx/);
  });
});

describe("tutti graph train-step", () => {
  test("writes a graph that onnxruntime runs, and what its inputs and outputs are", async () => {
    const out = at("step.onnx");
    const args = ["--export", out, "--targets", "all-linear", "--rank", "2", "--batch", "3"];
    await json("graph", "train-step", at("mlp.onnx"), ...args);
    const { inputs, outputs } = JSON.parse(readFileSync(`${out}.json`, "utf8"));
    const roles = (ports: { role: string }[]) => [...new Set(ports.map(({ role }) => role))].sort();
    expect(roles(inputs)).toEqual(["adapter", "data", "label", "row_weight"]);
    expect(roles(outputs)).toEqual(["gradient", "loss", "loss_sum", "correct", "model", "weight_sum"].sort());
    const session = await ort.InferenceSession.create(out);
    expect([...session.inputNames]).toEqual(inputs.map(({ name }: { name: string }) => name));
    expect([...session.outputNames]).toEqual(outputs.map(({ name }: { name: string }) => name));
    await expect(json("graph", "train-step", at("mlp.onnx"), ...args)).rejects.toThrow(/--force/);
  });

  // A step written over its own model is the end of the model: --force does not mean that.
  test("no file of the model is written over, forced or not, by whichever path", async () => {
    const { proto } = read(readFileSync(at("mlp.onnx")));
    const tensor = proto.graph!.initializer.find(({ rawData }) => rawData.length > 0)!;
    const entry = { $typeName: "onnx.StringStringEntryProto" as const, key: "location", value: "w.json" };
    const weights = tensor.rawData;
    tensor.externalData = [entry];
    tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
    tensor.rawData = new Uint8Array();
    mkdirSync(at("own"));
    const model = encode(ModelProtoSchema, create(ModelProtoSchema, proto));
    writeFileSync(at("own/m.onnx"), model);
    writeFileSync(at("own/w.json"), weights);
    symlinkSync(at("own"), at("linked"));
    symlinkSync(at("own/m.onnx"), at("link.onnx"));
    for (const out of ["own/m.onnx", "own/./m.onnx", "linked/m.onnx", "link.onnx", "own/w.json", "own/w"]) {
      const run = json(
        "graph",
        "train-step",
        at("own/m.onnx"),
        "--force",
        "--targets",
        "all-linear",
        ...["--export", `${home}/${out}`],
      );
      await expect(run, out).rejects.toThrow(/expected another file than the model's own.*folder of its own/);
    }
    expect(new Uint8Array(readFileSync(at("own/m.onnx")))).toEqual(model);
    expect(new Uint8Array(readFileSync(at("own/w.json")))).toEqual(new Uint8Array(weights));
    expect(readdirSync(at("own")).sort()).toEqual(["m.onnx", "w.json"]);
  });

  test("without targets it trains what inspect suggests first", async () => {
    const { suggestions } = await json("graph", "inspect", at("bert.onnx"));
    const { modules } = await json("graph", "train-step", at("bert.onnx"), "--export", at("first.onnx"));
    const [{ targets }] = suggestions as [{ targets: string[] }];
    expect((modules as { module: string }[]).map(({ module }) => module)).toEqual(targets);
  });
});

describe("tutti graph check", () => {
  test.each([
    ["mlp.onnx", "softmax-cross-entropy"],
    ["mlp.onnx", "mean-squared-error"],
    ["gpt.onnx", "next-token"],
  ])("%s with %s: engines agree, and slopes do", async (file, loss) => {
    const { agrees, slopes, engines } = await json("graph", "check", at(file), "--loss", loss);
    expect(agrees).toBe(true);
    expect(engines).toHaveLength(2);
    const verdicts = (slopes as { verdict: string }[]).map(({ verdict }) => verdict);
    expect(verdicts).toContain("agrees");
    expect(verdicts).not.toContain("differs");
  });

  test("a gradient that is not the loss's is found in either direction", async () => {
    // loss = Σ x³ / 3, whose gradient is x².
    const program: Program = {
      async step(feeds) {
        const x = feeds.get("x")!.data as Float32Array;
        return new Map([["loss", float32([], Float32Array.of(x.reduce((sum, v) => sum + v ** 3 / 3, 0)))]]);
      },
      dispose: async () => {},
    };
    const x = Float32Array.from({ length: 40 }, (_, i) => 0.5 + 0.05 * i);
    const verdict = async (gradient: Float32Array, direction: "uphill" | "random") => {
      const gradients = new Map([["x", gradient]]);
      const feeds = new Map([["x", float32([40], x)]]);
      const given = { program, feeds, gradients, direction, random: seededRandom("d") };
      return (await slopeOf("x", given)).verdict;
    };
    const right = x.map((v) => v * v);
    for (const direction of ["uphill", "random"] as const) {
      expect(await verdict(right, direction)).toBe("agrees");
      expect(
        await verdict(
          right.map((v) => 1.1 * v),
          "uphill",
        ),
      ).toBe("differs");
    }
    // Half of it missing shows where those elements move.
    expect(
      await verdict(
        right.map((v, i) => (i < 20 ? v : 0)),
        "random",
      ),
    ).toBe("differs");
    expect(
      await verdict(
        right.map(() => 0),
        "random",
      ),
    ).toBe("differs");
  });

  test("what cannot be seen is unclear, and what is no number differs", () => {
    expect(verdictOf({ derived: 1, measured: 1.01, unsure: 0.001, within: 0.02 })).toBe("agrees");
    expect(verdictOf({ derived: 1, measured: 1.1, unsure: 0.001, within: 0.02 })).toBe("differs");
    expect(verdictOf({ derived: 1, measured: 1.1, unsure: 0.2, within: 0.02 })).toBe("unclear");
    expect(verdictOf({ derived: 1, measured: Number.NaN, unsure: Number.NaN, within: 0.02 })).toBe("differs");
    expect(verdictOf({ derived: 0, measured: 0, unsure: 1e-6, within: 0 })).toBe("agrees");
  });
});

describe("tutti bench graph", () => {
  test("times a step and a forward pass on each engine", async () => {
    const { engines, faster } = await json("bench", "graph", at("mlp.onnx"), "--rounds", "1");
    const timed = engines as { engine: string; stepMs: { median: number } }[];
    expect(timed).toHaveLength(2);
    expect(timed.every(({ stepMs }) => stepMs.median > 0)).toBe(true);
    expect(timed.map(({ engine }) => engine)).toContain(faster);
  });

  test("the loss is taken of the output that was named", async () => {
    const named = (output: string) =>
      json("bench", "graph", at("two.onnx"), "--rounds", "1", "--output", output);
    const graph = mlp({ inputs: 6, hidden: [8], outputs: 4, random });
    const [hidden] = graph.nodes.find(({ op }) => op === "Relu")!.outputs;
    const outputs = [...graph.outputs, { name: hidden!, dtype: "float32", shape: ["batch", 8] } as const];
    writeFileSync(at("two.onnx"), write({ ...graph, outputs }));
    const [first, other] = [await named(graph.outputs[0]!.name), await named(hidden!)];
    // What lies behind the hidden layer is not run back through.
    expect(other.nodes).toBeLessThan(first.nodes as number);
    await expect(named("nobody")).rejects.toThrow(/nobody/);
  });
});
