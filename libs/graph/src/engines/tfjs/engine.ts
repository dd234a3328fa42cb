import { Fault } from "@tutti/foundation/fault";
import { type Queue, queue } from "@tutti/foundation/queue";
import type { Engine, Program, Static, Tensor, Tensors, TracedGraph } from "../../ir.ts";
import { widened } from "../../widen.ts";
import { anyRank } from "./any-rank.ts";
import { type Compiled, compile, run } from "./compile.ts";
import { download, upload } from "./convert.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

/**
 * The tfjs engine: an interpreter over `tf`, which the app brings with `backend` registered ("wasm",
 * "webgpu", "webgl", "cpu", "tensorflow"). Loading checks every node and throws a Fault("unsupported") that
 * names the first one outside what the engine runs; stepping reads nothing back but the outputs.
 * Integers are 32 bits wide inside (int64 feeds are range-checked); float64 and float16 are computed as
 * float32, fed and given out as what they are.
 */
export function tfjsEngine(plain: Tf, backend: string): Engine {
  const tf = anyRank(plain);
  return {
    name: `tfjs/${backend}`,
    async load(graph) {
      const inBackend = <T>(work: () => T | Promise<T>): Promise<T> =>
        inTurn(plain, async () => {
          await useBackend(tf, backend);
          return work();
        });
      const compiled = await inBackend(() => compile(tf, backend, inFloat32(graph)));
      return program(tf, inBackend, { graph: interfaceOf(graph), compiled });
    },
  };
}

/** Runs work alone on the engine's tfjs, on the engine's backend. */
type InBackend = <T>(work: () => T | Promise<T>) => Promise<T>;

/**
 * The queue of each tfjs. Which backend is in use is state of the `tf` object, so all engines made
 * of one `tf` must share its queue: this is kept per `tf`, for as long as that lives.
 */
const queues = new WeakMap<Tf, Queue>();

/** Runs work when all that asked before on this tfjs has ended, well or badly. */
function inTurn<T>(tf: Tf, work: () => Promise<T>): Promise<T> {
  const own = queues.get(tf) ?? queue();
  queues.set(tf, own);
  return own(work);
}

/** The graph without halves: in float32, so what half would round or overflow on the way does not. */
function inFloat32(graph: TracedGraph): TracedGraph {
  const half = ({ dtype }: Static) => dtype === "float16";
  if (![...graph.statics.values(), ...graph.initializers.values()].some(half)) return graph;
  const statics = [...graph.statics].map(([name, value]): [string, Static] => [
    name,
    half(value) ? { ...value, dtype: "float32" } : value,
  ]);
  return { ...widened(graph), statics: new Map(statics) };
}

/**
 * What a step needs of the graph. Its weights are on the backend, and this must not keep them here as well.
 */
function interfaceOf({ name, inputs, outputs, ...graph }: TracedGraph): Interface {
  const named = [...inputs, ...outputs].map((value) => value.name);
  const statics = named.map((value) => {
    const found = graph.statics.get(value) ?? graph.initializers.get(value);
    const expected = `a traced value ${value}`;
    if (!found) throw new Fault("bad-input", `graph ${name}`, { expected, got: "an untraced one" });
    return [value, { dtype: found.dtype, shape: found.shape }] as const;
  });
  return { name, inputs, outputs, statics: new Map(statics) };
}

type Interface = Pick<TracedGraph, "name" | "inputs" | "outputs" | "statics">;

async function useBackend(tf: Tf, backend: string): Promise<void> {
  if (tf.getBackend() === backend) return;
  const found = tf.findBackendFactory(backend) !== null && (await tf.setBackend(backend));
  if (found) return;
  throw new Fault("unavailable", `tfjs backend ${backend}`, {
    expected: "a backend that starts on this device",
    got:
      tf.findBackendFactory(backend) === null ? "none registered under that name" : "one that does not start",
  });
}

function program(tf: Tf, inBackend: InBackend, loaded: { graph: Interface; compiled: Compiled }): Program {
  const { graph, compiled } = loaded;
  let disposed = false;
  // Asked again when a step's turn comes: dispose does not wait for steps that have not begun.
  const live = () => {
    if (disposed) throw new Fault("cancelled", `graph ${graph.name}`, { got: "a step after dispose" });
  };
  return {
    async step(feeds) {
      live();
      const checked = graph.inputs.map(({ name }) => [name, checkFeed(graph, name, feeds)] as const);
      const outputs = await inBackend(() => {
        live();
        return tf.tidy(() => interpret(tf, loaded, checked));
      });
      try {
        return await collect(graph, outputs);
      } finally {
        for (const tensor of outputs) tensor.dispose();
      }
    },
    async dispose() {
      if (disposed) return;
      disposed = true;
      compiled.constants.release();
    },
  };
}

function checkFeed(graph: Interface, name: string, feeds: Tensors): Tensor {
  const tensor = feeds.get(name);
  const { dtype, shape } = graph.statics.get(name)!;
  if (!tensor)
    throw new Fault("bad-input", `feed ${name}`, { expected: `${dtype}[${shape}]`, got: "nothing" });
  if (tensor.dtype === dtype && `${tensor.shape}` === `${shape}`) return tensor;
  throw new Fault("bad-input", `feed ${name}`, {
    expected: `${dtype}[${shape}]`,
    got: `${tensor.dtype}[${tensor.shape}]`,
  });
}

/** All steps in order. Runs inside one tidy, which frees everything should a step throw. */
function interpret(
  tf: Tf,
  loaded: { graph: Interface; compiled: Compiled },
  feeds: readonly (readonly [string, Tensor])[],
): TfTensor[] {
  const { steps, constants } = loaded.compiled;
  const values = new Map<string, TfTensor>();
  for (const [name, tensor] of feeds) values.set(name, upload(tf, tensor, name));
  const read = (name: string): TfTensor => values.get(name) ?? constants.get(name);
  for (const step of steps) {
    const results = run(
      tf,
      step,
      step.sources.map((name) => (name === "" ? undefined : read(name))),
    );
    for (const [index, name] of step.targets.entries()) {
      const result = results[index];
      if (name === "") result?.dispose();
      else if (result) values.set(name, result);
    }
    for (const name of step.frees) {
      values.get(name)?.dispose();
      values.delete(name);
    }
  }
  // Clones, so that an output that is a constant, a feed, or named twice can be freed like any other.
  return loaded.graph.outputs.map(({ name }) => tf.clone(read(name)));
}

async function collect(graph: Interface, outputs: readonly TfTensor[]): Promise<Tensors> {
  const named = graph.outputs.map(async ({ name }, index) => {
    const { dtype, shape } = graph.statics.get(name)!;
    return [name, await download(outputs[index]!, dtype, shape)] as const;
  });
  return new Map(await Promise.all(named));
}
