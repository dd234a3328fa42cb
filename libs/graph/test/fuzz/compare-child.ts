import "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { Fault } from "@tutti/foundation/fault";
import { type SeededRandom, seededRandom } from "@tutti/foundation/random";
import * as ort from "onnxruntime-node";
import { onnxruntimeEngine } from "../../src/engines/onnxruntime/engine.ts";
import { tfjsEngine } from "../../src/engines/tfjs/engine.ts";
import { evaluateNode, evaluates } from "../../src/evaluate/evaluate.ts";
import { fromHalf } from "../../src/half.ts";
import { signatureOf } from "../../src/infer/signatures.ts";
import {
  type Attribute,
  type Graph,
  type Static,
  sizeOf,
  type Tensor,
  type Tensors,
  type TracedGraph,
} from "../../src/ir.ts";
import { numeric, tensorOf } from "../../src/tensor.ts";
import { trace } from "../../src/trace.ts";
import { guarded } from "./guards.ts";
import { drawnNode, told } from "./nodes.ts";

/**
 * Draws nodes and compares what tfjs and the plain rules make of them with what onnxruntime does, in a
 * process of its own: `compare-child.ts <first seed> <count>`. What it prints is read by batch.ts.
 */
const [first, count] = process.argv.slice(2).map(Number) as [number, number];
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Elements that a graph's values may have together to be worth running. */
const WORTH = 2 ** 12;

const TFJS = tfjsEngine(tf, "wasm");
const ORT = onnxruntimeEngine(ort, { session: { logSeverityLevel: 4, intraOpNumThreads: 1 } });
const look = await guarded();

/** Weights become inputs, mostly, so that nodes are run and not folded; what may be sizes or axes stays. */
function fed(graph: Graph, random: SeededRandom): { graph: Graph; given: Map<string, Tensor> } {
  const { holds } = signatureOf(graph.nodes[0]!)!;
  const stays = new Set(holds.filter(([, kind]) => kind === "#").map(([index]) => `x${index}`));
  const moved = [...graph.initializers].filter(([name]) => !stays.has(name) && random.below(4) !== 0);
  const given = new Map(moved);
  const inputs = [...graph.inputs, ...moved.map(([name, { dtype, shape }]) => ({ name, dtype, shape }))];
  const initializers = new Map([...graph.initializers].filter(([name]) => !given.has(name)));
  return { graph: { ...graph, inputs, initializers }, given };
}

/** What the standard leaves open, or onnxruntime (1.30) does otherwise than the standard says. */
function open(graph: Graph): boolean {
  const { opset, nodes, inputs, initializers } = graph;
  const { op, attributes, inputs: names } = nodes[0]!;
  const [typed, other] = [0, 1].map(
    (index) => initializers.get(names[index] ?? "") ?? inputs.find(({ name }) => name === names[index]),
  );
  return (
    /^(Bernoulli|Random.*|Multinomial)$/.test(op) ||
    [...attributes.values()].some(isWild) ||
    // Other than 0 and 1 it leaves the output of a cast unwritten.
    attributes.has("saturate") ||
    // Of a scalar the standard wants [0, n], "different from numpy"; it gives [1, n].
    (op === "NonZero" && typed?.shape?.length === 0) ||
    // Of nothing the mean is not defined; 0 there, NaN here.
    (op === "ReduceMean" && typed?.shape?.includes(0) === true) ||
    // Of nothing, with `keepdims` other than 0 and 1, it gives the shape of the input.
    (/^Arg(Max|Min)$/.test(op) && typed?.shape?.includes(0) === true) ||
    // Of a tensor without elements it reduces no axis that is counted from the end.
    (op.startsWith("Reduce") &&
      typed?.shape?.includes(0) === true &&
      axesOf(graph).some((axis) => axis < 0)) ||
    // A matrix to be transposed keeps its elements' order beside a vector.
    (/^(Fused|Transpose)MatMul$/.test(op) &&
      (attributes.get("transA")?.value ?? 0) !== 0 &&
      other?.shape?.length === 1) ||
    // Before version 12 the mask of an inference is not defined.
    (op === "Dropout" && opset < 12) ||
    // Zero to a negative power.
    (op === "Pow" && !typed?.dtype?.startsWith("float")) ||
    // Its quotient of nothing by nothing is 1e-9 in the standard's function, and NaN there.
    op === "MeanVarianceNormalization"
  );
}

/** A reduction's axes as they are written, in an attribute or in a weight. */
function axesOf({ nodes, initializers }: Graph): readonly number[] {
  const { attributes, inputs } = nodes[0]!;
  const [written, held] = [attributes.get("axes"), initializers.get(inputs[1] ?? "")];
  if (written?.kind === "ints") return written.value;
  return held ? numbersOf(held) : [];
}

const isWild = ({ kind, value }: Attribute): boolean =>
  (kind === "float" || kind === "floats") && [value].flat().some((x) => !(Math.abs(Number(x)) < 1e9));

const numbersOf = (tensor: Tensor): number[] =>
  Array.from(numeric(tensor) as ArrayLike<number>, (x) =>
    tensor.dtype === "float16" ? fromHalf(x) : Number(x),
  );

/** How a value differs from the one expected, in words; undefined where it does not. */
function difference(is: Tensor, expected: Tensor): string | undefined {
  const [a, b] = [is, expected].map(({ dtype, shape }) => `${dtype}[${shape}]`);
  if (a !== b) return `${a}, not ${b}`;
  const [x, y] = [numbersOf(is), numbersOf(expected)];
  const tolerance = is.dtype === "float16" ? 2e-3 : 1e-4;
  const near = (u: number, v: number) =>
    u === v || Number.isNaN(u + v) || Math.abs(u - v) <= tolerance * Math.max(1, Math.abs(v));
  const same = x.every((u, i) => Number.isNaN(u) === Number.isNaN(y[i]!) && near(u, y[i]!));
  return same ? undefined : `[${x.slice(0, 12)}], not [${y.slice(0, 12)}]`;
}

/** A Fault, or onnxruntime's own refusal, is no result. */
async function unlessRefused(work: () => Promise<Tensors>): Promise<Tensors | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Fault && error.code !== "internal") return undefined;
    throw error;
  }
}

async function byTfjs(traced: TracedGraph, feeds: Tensors): Promise<Tensors> {
  const program = await TFJS.load(traced);
  try {
    return await program.step(feeds);
  } finally {
    await program.dispose();
    look();
  }
}

/** The node as it was drawn, whatever tracing made of it. */
async function byOnnxruntime(graph: Graph, traced: TracedGraph, feeds: Tensors): Promise<Tensors> {
  const [written, { initializers }] = [graph.nodes[0]!, graph];
  // An empty input at the end kills its LayerNormalization; tracing takes such away.
  const inputs = written.inputs.slice(0, written.inputs.findLastIndex((name) => name !== "") + 1);
  const program = await ORT.load({ ...traced, initializers, nodes: [{ ...written, inputs }] });
  try {
    return await program.step(feeds);
  } catch (cause) {
    throw new Fault("unsupported", "onnxruntime", { cause });
  } finally {
    await program.dispose();
  }
}

async function byRules({ nodes, opset, initializers }: Graph, feeds: Tensors): Promise<Tensors> {
  const values = new Map([...initializers, ...feeds]);
  const made = evaluateNode(nodes[0]!, { opset, constant: (name) => values.get(name) });
  return new Map(nodes[0]!.outputs.slice(0, made.length).map((name, i) => [name, made[i]!]));
}

/** By which ways the node was compared with onnxruntime; what differs is thrown. */
async function compared(random: SeededRandom, begins: (how: string) => void): Promise<readonly string[]> {
  const { graph, given } = fed(drawnNode(random), random);
  begins(told(graph));
  if (open(graph)) return [];
  const traced = trace(graph);
  if ([...traced.statics.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0) > WORTH) return [];
  const drawn = ({ dtype, shape }: Static) =>
    tensorOf(
      dtype,
      shape,
      Array.from({ length: sizeOf(shape) }, () => random.below(dtype === "bool" ? 2 : 4)),
    );
  const feeds = new Map(
    traced.inputs.map(({ name }) => [name, given.get(name) ?? drawn(traced.statics.get(name)!)] as const),
  );
  const expected = await unlessRefused(() => byOnnxruntime(graph, traced, feeds));
  if (!expected) return [];
  const ways: [string, Tensors | undefined][] = [
    ["tfjs", await unlessRefused(() => byTfjs(traced, feeds))],
    ["rules", evaluates(graph.nodes[0]!) ? await unlessRefused(() => byRules(graph, feeds)) : undefined],
  ];
  for (const [way, results] of ways)
    for (const [name, value] of results ?? []) {
      const what = expected.has(name) ? difference(value, expected.get(name)!) : undefined;
      if (what) throw new Error(`${name}: ${way}: ${what}`);
    }
  return ways.flatMap(([way, results]) => (results ? [way] : []));
}

const fates: Record<string, number> = { compared: 0, tfjs: 0, rules: 0 };
for (let seed = first; seed < first + count; seed++) {
  let how = "";
  try {
    const ways = await compared(seededRandom(`compared ${seed}`), (text) => {
      how = text;
      say({ begins: seed, how });
    });
    for (const way of ways.length > 0 ? ["compared", ...ways] : []) fates[way]! += 1;
  } catch (error) {
    if (error instanceof Fault && error.code !== "internal") continue;
    say({ defect: { seed, how, error: error instanceof Error ? error.stack : String(error) } });
  }
}
say({ report: { cases: count, fates, residentBytes: process.resourceUsage().maxRSS * 1024 } });
