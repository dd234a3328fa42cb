import type * as TfCore from "@tensorflow/tfjs-core";
import { Fault } from "@tutti/foundation/fault";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import {
  type Graph,
  type Program,
  sizeOf,
  type Tensor,
  type Tensors,
  type TracedGraph,
} from "../../src/ir.ts";
import { read } from "../../src/read.ts";
import { numbers, tensorOf } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";
import type { BackendCase, WholeModel } from "../backend-cases.ts";

/*
 * How one of the standard's cases runs on tfjs: for the test that guards them and the claim that counts them.
 */

/** What became of a case. `held` are the inputs that had to be constant; `nodes` how many the engine ran. */
export type Outcome =
  | { readonly kind: "passed"; readonly held: readonly string[]; readonly nodes: number }
  | { readonly kind: "refused"; readonly fault: Fault }
  | { readonly kind: "wrong"; readonly why: string };

/** Where a case runs. */
export type Place = { readonly tf: typeof TfCore; readonly backend: string };

/** Reads, traces, loads and runs a case, and compares with the standard's own outputs. */
export async function runCase(place: Place, item: BackendCase): Promise<Outcome> {
  try {
    const { graph } = read(item.model);
    const given = graph.inputs.map(({ name }, index) => [name, item.inputs[index]!] as const);
    if (item.outputs.length !== graph.outputs.length) return wrong(`${item.outputs.length} outputs decoded`);
    const feeds = new Map(given);
    const { program, traced, held } = await ready(place, { graph, feeds });
    const results = await program.step(without(feeds, held));
    await program.dispose();
    const why = graph.outputs.flatMap(({ name }, i) => difference(results.get(name), item.outputs[i]!, name));
    return why.length > 0 ? wrong(why[0]!) : { kind: "passed", held: [...held], nodes: traced.nodes.length };
  } catch (error) {
    const refusal = error instanceof Fault && REFUSALS.has(error.code);
    return refusal ? { kind: "refused", fault: error } : wrong(String(error));
  }
}

/** Runs one of the whole CNNs, one image 0, 1/n, 2/n, …; what is wrong with its output, or nothing. */
export async function runWhole({ tf, backend }: Place, { model, output }: WholeModel): Promise<string[]> {
  const { graph } = read(model);
  const traced = trace(graph, { shapes: {} });
  const feeds = new Map(
    traced.inputs.map(({ name }) => {
      const { shape } = traced.statics.get(name)!;
      const size = sizeOf(shape);
      return [
        name,
        tensorOf(
          "float32",
          shape,
          Array.from({ length: size }, (_, i) => i / size),
        ),
      ] as const;
    }),
  );
  const program = await tfjsEngine(tf, backend).load(traced);
  const results = await program.step(feeds);
  await program.dispose();
  const [first] = traced.outputs;
  return difference(results.get(first!.name), output, first!.name);
}

const wrong = (why: string): Outcome => ({ kind: "wrong", why });

/** How the library says that it will not run a graph. */
const REFUSALS: ReadonlySet<string> = new Set(["unsupported", "bad-input"]);

type Ready = { program: Program; traced: TracedGraph; held: ReadonlySet<string> };

/** Every input fed, but for those that trace or load name as a value to be known before the run. */
async function ready(
  { tf, backend }: Place,
  { graph, feeds }: { graph: Graph; feeds: Tensors },
): Promise<Ready> {
  const held = new Set<string>();
  for (;;) {
    try {
      const traced = tracedWith(graph, { feeds, held });
      return { program: await tfjsEngine(tf, backend).load(traced), traced, held };
    } catch (error) {
      const before = held.size;
      for (const name of asked(graph, error)) held.add(name);
      if (held.size === before) throw error;
    }
  }
}

function tracedWith(
  graph: Graph,
  { feeds, held }: { feeds: Tensors; held: ReadonlySet<string> },
): TracedGraph {
  const inputs = graph.inputs.filter(({ name }) => !held.has(name));
  const shapes = Object.fromEntries(inputs.map(({ name }) => [name, feeds.get(name)!.shape]));
  const constants = [...held].map((name) => [name, feeds.get(name)!] as const);
  return trace(
    { ...graph, inputs, initializers: new Map([...graph.initializers, ...constants]) },
    { shapes },
  );
}

/** The inputs behind the value a Fault wants known; all of them where it names none, as for an If. */
function asked(graph: Graph, error: unknown): readonly string[] {
  const wants = error instanceof Fault && /known before the run/.test(error.detail.expected ?? "");
  if (!wants) return [];
  const name = /\((\S+)\)$/.exec(error.what)?.[1] ?? "";
  const sources = sourcesOf(graph, name);
  return sources.length > 0 ? sources : graph.inputs.map((input) => input.name);
}

function sourcesOf(graph: Graph, name: string): string[] {
  if (graph.inputs.some((input) => input.name === name)) return [name];
  const maker = graph.nodes.find(({ outputs }) => outputs.includes(name));
  return maker?.inputs.flatMap((input) => (input === "" ? [] : sourcesOf(graph, input))) ?? [];
}

function without(feeds: Tensors, held: ReadonlySet<string>): Tensors {
  return new Map([...feeds].filter(([name]) => !held.has(name)));
}

/** What tells a tensor from the one expected: dtype, shape, an integer, a float beyond 1e-4 + 1e-3·|y|. */
export function difference(got: Tensor | undefined, expected: Tensor, name: string): string[] {
  const kind = ({ dtype, shape }: Tensor) => `${dtype}[${shape}]`;
  if (!got || kind(got) !== kind(expected))
    return [`${name} is ${got ? kind(got) : "nothing"}, expected ${kind(expected)}`];
  const float = expected.dtype.startsWith("float");
  const [a, b] = expected.dtype === "string" ? [got.data, expected.data] : [numbers(got), numbers(expected)];
  for (let i = 0; i < b.length; i++) {
    const [x, y] = [a[i]!, b[i]!];
    const near = float && Math.abs(Number(x) - Number(y)) <= 1e-4 + 1e-3 * Math.abs(Number(y));
    if (!(Object.is(x, y) || x === y || near)) return [`${name}[${i}] is ${x}, expected ${y}`];
  }
  return [];
}
