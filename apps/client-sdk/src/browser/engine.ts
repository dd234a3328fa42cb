import { systemClock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { type AutoOptions, autoEngine } from "@tutti/graph/engines/auto";
import {
  type Onnxruntime,
  type OnnxruntimeOptions,
  onnxruntimeEngine,
} from "@tutti/graph/engines/onnxruntime/engine";
import { tfjsEngine } from "@tutti/graph/engines/tfjs/engine";
import type { Tf } from "@tutti/graph/engines/tfjs/tfjs";
import { type Engine, float32, type TracedGraph } from "@tutti/graph/ir";

/** What an app brings: it imports the packages, so that its page loads no backend it does not want. */
export type BrowserParts = {
  /** tfjs-core, after the app has imported backends: "@tensorflow/tfjs-backend-webgl" and others. */
  readonly tf?: Tf;
  /** The module "onnxruntime-web", or one of its parts. */
  readonly onnxruntime?: Onnxruntime;
  /**
   * Defaults to WebAssembly. Check gradients before naming "webgpu" here: version 1.30 got them wrong in the
   * one browser it was tried in (test/browser/engines.test.ts).
   */
  readonly onnxruntimeOptions?: OnnxruntimeOptions;
  readonly auto?: Partial<AutoOptions>;
};

/** docs/architecture.md, Training is an ONNX graph. */
const BACKENDS = ["webgpu", "webgl", "wasm"] as const;

/**
 * What runs training graphs in a page: tfjs on the first of webgpu, webgl and wasm that the app registered,
 * that starts, and that counts in 32 bits; onnxruntime; or "auto", whichever takes a graph's first steps
 * faster.
 * @throws Fault("unavailable") with each backend's reason, when none works; Fault("bad-input") for an engine
 * whose package the app did not bring.
 */
export async function browserEngine(
  name: "tfjs" | "onnxruntime" | "auto",
  parts: BrowserParts,
): Promise<Engine> {
  const { tf, onnxruntime, onnxruntimeOptions = {}, auto = {} } = parts;
  switch (name) {
    case "tfjs":
      return firstWorking(brought(tf, "tfjs-core"));
    case "onnxruntime": {
      const options = { executionProviders: ["wasm"], ...onnxruntimeOptions };
      return onnxruntimeEngine(brought(onnxruntime, "onnxruntime-web"), options);
    }
    case "auto": {
      const candidates: Engine[] = [];
      if (tf) candidates.push(await browserEngine("tfjs", parts));
      if (onnxruntime) candidates.push(await browserEngine("onnxruntime", parts));
      // The first is what the other is measured by: a processor counts alike everywhere, drivers may not.
      const trusted = candidates.toSorted((a, b) => Number(onProcessor(b)) - Number(onProcessor(a)));
      return autoEngine(trusted, { clock: systemClock(), ...auto });
    }
    default:
      throw new Fault("bad-input", "engine", { expected: "tfjs, onnxruntime or auto", got: `${name}` });
  }
}

const onProcessor = ({ name }: Engine): boolean => /\/(wasm|cpu)$/.test(name);

function brought<T>(part: T | undefined, what: string): T {
  if (part !== undefined) return part;
  throw new Fault("bad-input", "engine", { expected: `${what}, brought by the app`, got: "nothing" });
}

async function firstWorking(tf: Tf): Promise<Engine> {
  const reasons: string[] = [];
  for (const backend of BACKENDS) {
    const engine = tfjsEngine(tf, backend);
    try {
      await probe(engine);
      return engine;
    } catch (error) {
      reasons.push(asFault(error).message);
    }
  }
  const todo = "Import @tensorflow/tfjs-backend-wasm";
  throw new Fault("unavailable", "tfjs", { expected: "a backend that works", got: reasons.join("; "), todo });
}

/**
 * Runs one product. A backend may start and then not compute, and webgl on many phones rounds to 16 bits, in
 * which a gradient is lost: half precision would answer 1 · 3 = 3.
 */
export async function probe(engine: Engine): Promise<void> {
  const program = await engine.load(PROBE);
  try {
    const results = await program.step(new Map([["x", float32([LONG], new Float32Array(LONG).fill(FINE))]]));
    const got = (results.get("y")!.data as Float32Array).find((y) => !(Math.abs(y - 3 * FINE) <= 1e-6));
    if (got === undefined) return;
    throw new Fault("unavailable", engine.name, { expected: `${3 * FINE}, in 32 bits`, got: `${got}` });
  } finally {
    await program.dispose();
  }
}

/** Not 1 in 32 bits, and 1 in 16. */
const FINE = 1 + 2 ** -13;

/** tfjs computes what is shorter than 1000 (webgpu) or 128 (webgl) on the processor: that tells nothing. */
const LONG = 2048;

const SHAPES = { x: [LONG], three: [1], y: [LONG] } as const;

const info = (name: "x" | "y") => ({ name, dtype: "float32", shape: SHAPES[name] }) as const;

const PROBE: TracedGraph = {
  ...{ name: "probe", opset: 17, inputs: [info("x")], outputs: [info("y")] },
  initializers: new Map([["three", float32([1], Float32Array.of(3))]]),
  nodes: [
    {
      ...{ op: "Mul", domain: "", name: "probe", inputs: ["x", "three"], outputs: ["y"] },
      ...{ attributes: new Map(), metadata: new Map() },
    },
  ],
  statics: new Map(
    Object.entries(SHAPES).map(([name, shape]) => [name, { dtype: "float32", shape }] as const),
  ),
};
