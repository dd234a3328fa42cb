import { Fault } from "@tutti/foundation/fault";
import { describe, expect, test } from "vitest";
import { type AutoOptions, autoEngine, type Choice } from "../../src/engines/auto.ts";
import { type Engine, float32, type Tensors, type TracedGraph } from "../../src/ir.ts";

const GRAPH: TracedGraph = {
  ...{ name: "g", opset: 17, inputs: [], outputs: [], nodes: [] },
  ...{ initializers: new Map(), statics: new Map() },
};
const FEEDS: Tensors = new Map();

/** What the engines agree on; `by` says who it was, a last bit apart. */
const RIGHT: Tensors = new Map([
  ["loss", float32([], Float32Array.of(0.7))],
  ["grad.a", float32([3], Float32Array.of(0.5, -2, 0))],
]);
const by = (name: string) => ["by", float32([1], Float32Array.of(1 + name.length * 2 ** -23))] as const;
const saidBy = (results: Tensors) => ((results.get("by")!.data[0] as number) - 1) * 2 ** 23;

/** A clock that only steps move, and engines whose steps take what they are told. */
function world() {
  let now = 0;
  const log: string[] = [];
  const engine = (
    name: string,
    stepsMs: readonly (number | Fault)[],
    { refusal, results = () => RIGHT }: { refusal?: Fault; results?: () => Tensors } = {},
  ): Engine => ({
    name,
    async load() {
      if (refusal) throw refusal;
      let at = 0;
      return {
        async step() {
          log.push(name);
          const ms = stepsMs[Math.min(at++, stepsMs.length - 1)]!;
          if (ms instanceof Fault) throw ms;
          now += ms;
          return new Map([...results(), by(name)]);
        },
        dispose: async () => void log.push(`-${name}`),
      };
    },
  });
  const choices: Choice[] = [];
  const options: AutoOptions = { clock: { nowMs: () => now }, onChosen: (choice) => choices.push(choice) };
  return { engine, log, choices, options };
}

describe("autoEngine", () => {
  test("takes turns after a warm-up, keeps the quicker one and disposes the other", async () => {
    const { engine, log, choices, options } = world();
    // The warm-up would choose the other one.
    const auto = autoEngine([engine("a", [1, 9]), engine("bb", [50, 5])], { ...options, rounds: 2 });
    expect(auto.name).toBe("auto");
    const program = await auto.load(GRAPH);
    expect(program.engine).toBeUndefined();
    await program.step(FEEDS);
    expect(log.join(" ")).toBe("a bb a bb a bb -a");
    expect([program.engine, auto.name]).toEqual(["bb", "bb"]);
    expect(choices).toEqual([{ engine: "bb", stepMs: { a: 9, bb: 5 }, refused: [] }]);
  });

  test("the first step's result is the chosen engine's, and later steps are its alone", async () => {
    const { engine, log, options } = world();
    const program = await autoEngine([engine("a", [9]), engine("bb", [5])], options).load(GRAPH);
    for (let n = 0; n < 2; n++) expect(saidBy(await program.step(FEEDS))).toBe(2);
    expect(log.slice(log.indexOf("-a"))).toEqual(["-a", "bb"]);
    await program.dispose();
    expect(log.at(-1)).toBe("-bb");
  });

  test("no step for measuring begins when the time is up, and steps that came meanwhile wait", async () => {
    const { engine, log, options } = world();
    const auto = autoEngine([engine("a", [30]), engine("b", [40])], { ...options, budgetMs: 100 });
    const program = await auto.load(GRAPH);
    await Promise.all([program.step(FEEDS), program.step(FEEDS)]);
    expect(log.join(" ")).toBe("a b a -b a");
  });

  test("one that does not load or run is passed over and named", async () => {
    const { engine, choices, options } = world();
    const [load, run] = [new Fault("unsupported", "kernel"), new Fault("unavailable", "device")];
    const auto = autoEngine(
      [engine("a", [1], { refusal: load }), engine("b", [run]), engine("c", [5])],
      options,
    );
    const program = await auto.load(GRAPH);
    await program.step(FEEDS);
    expect(choices[0]!.engine).toBe("c");
    expect(choices[0]!.refused).toEqual([
      { engine: "a", because: load },
      { engine: "b", because: run },
    ]);
  });

  test("one that is quick and wrong is refused, named with how wrong it is, and disposed", async () => {
    const { engine, log, choices, options } = world();
    // An eighth of grad.a's largest element.
    const wrong = new Map([...RIGHT, ["grad.a", float32([3], Float32Array.of(0.5, -2, 0.25))]]);
    const candidates = [
      engine("right", [9]),
      engine("wrong", [1], { results: () => wrong }),
      engine("b", [7]),
    ];
    const program = await autoEngine(candidates, options).load(GRAPH);
    expect(saidBy(await program.step(FEEDS))).toBe(1);
    expect([program.engine, choices[0]!.stepMs]).toEqual(["b", { right: 9, b: 7 }]);
    const [refused] = choices[0]!.refused;
    expect([refused!.engine, refused!.because.code]).toEqual(["wrong", "internal"]);
    expect(refused!.because.message).toMatch(/wrong: grad\.a: .*0\.001 of right's.*got 0\.13 apart/);
    expect(log.filter((said) => said === "wrong")).toHaveLength(1);
    expect(log).toContain("-wrong");
  });

  test("the first that runs is what the others are measured by", async () => {
    const { engine, options } = world();
    const other = new Map([...RIGHT, ["loss", float32([], Float32Array.of(0.6))]]);
    const out = new Fault("unavailable", "device");
    const candidates = [engine("a", [out]), engine("b", [9], { results: () => other }), engine("c", [5])];
    const program = await autoEngine(candidates, options).load(GRAPH);
    await program.step(FEEDS);
    expect(program.engine).toBe("b");
  });

  test("where values are rounded to levels, one level of many is no reason to refuse", async () => {
    const near = new Map([...RIGHT, ["grad.a", float32([3], Float32Array.of(0.5, -2, 0.02))]]);
    const quantiser = {
      ...{ op: "DynamicQuantizeLinear", domain: "", name: "q", inputs: ["x"], outputs: ["y", "s", "z"] },
      ...{ attributes: new Map(), metadata: new Map() },
    };
    for (const [graph, chosen] of [
      [GRAPH, "a"],
      [{ ...GRAPH, nodes: [quantiser] }, "b"],
    ] as const) {
      const { engine, options } = world();
      const candidates = [engine("a", [9]), engine("b", [5], { results: () => near })];
      const program = await autoEngine(candidates, options).load(graph);
      await program.step(FEEDS);
      expect(program.engine).toBe(chosen);
    }
  });

  test("where none loads, each reason is said", async () => {
    const { engine, options } = world();
    const no = (what: string) => new Fault("unsupported", what);
    const auto = autoEngine(
      [engine("a", [1], { refusal: no("x") }), engine("b", [1], { refusal: no("y") })],
      options,
    );
    await expect(auto.load(GRAPH)).rejects.toThrow(/a: x; b: y/);
    await expect(autoEngine([], options).load(GRAPH)).rejects.toThrow(/no candidates/);
  });

  test("a first step that all refuse chooses none: the feeds may have been wrong", async () => {
    const { engine, options } = world();
    const bad = new Fault("bad-input", "feed x");
    const program = await autoEngine([engine("a", [bad, 3]), engine("b", [bad, 4])], options).load(GRAPH);
    await expect(program.step(FEEDS)).rejects.toMatchObject({ code: "bad-input" });
    await program.step(FEEDS);
    expect(program.engine).toBe("a");
  });
});
