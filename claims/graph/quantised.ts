import { readFileSync } from "node:fs";
import { attach, attachedFeeds, detach, emptyFeeds } from "@tutti/adapter/attach";
import { initialAdapter } from "@tutti/adapter/initial";
import { resolve } from "@tutti/adapter/resolve";
import { equalBytes } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import type { DType, Engine, Tensors } from "@tutti/graph/ir";
import { read } from "@tutti/graph/read";
import { encode } from "@tutti/wire/message";
import { type TensorProto, TensorProtoSchema } from "@tutti/wire/onnx";
import * as ort from "onnxruntime-node";
import { stepOnce } from "../../libs/adapter/test/bench.ts";
import { apart } from "../../libs/adapter/test/golden.ts";
import { shared } from "../../libs/graph/test/shared.ts";
import type { Claim } from "../claim.ts";
import { asFeeds, batchFor, bothEngines, lessonOf, teach } from "../support/graph-adapter.ts";

const FILES = ["dyn-int8", "qdq-int8", "nbits4", "fp16", "extdata"] as const;
const TARGETS = { "query, value": ["query", "value"], "all linear": "all-linear" } as const;
const [STEPS, RATE, ROWS] = [12, 0.05, 4];
/** A loss that fell by chance or by rounding does not count. */
const FALL = 0.98;
/** Halves: the attached path computes in them, the injected one in float32. */
const APART: Readonly<Record<string, number>> = { fp16: 1e-3 };

/**
 * onnxruntime that computes what the graph says. Left to itself it drops pairs of quantisers from the traced
 * graph of the static int8 model (from its "basic" level on), which alone moves the output by a percent.
 */
const literal = onnxruntimeEngine(ort as never, {
  session: { intraOpNumThreads: 1, graphOptimizationLevel: "disabled" },
});

/** One file, one choice of targets. */
type Met = {
  readonly modules: number;
  /** First and last loss, per engine. */
  readonly losses: Readonly<Record<string, readonly [number, number]>>;
  readonly baseIntact: boolean;
  readonly tensorsIntact: boolean;
  /** At rank 0 every bit of the output is the base's, with all of onnxruntime's rewrites and with none. */
  readonly emptyIsBase: boolean;
  /** The attached file against the injected graph, both with the trained factors, of the largest output. */
  readonly attachedVersusInjected: number;
};

export const claim: Claim = {
  name: "graph/quantised",
  target:
    "Each of conformance/quantised (int8 dynamic and static, 4 bit, halves, external data), on query and " +
    "value and on all linear layers: the loss falls by at least 2 % in 12 steps on both engines with the " +
    "base frozen; attached, the base's tensors keep their bytes and detach gives back the file; rank 0 is " +
    "the base, bit for bit; " +
    "attached and injected agree within 1e-5 (halves: 1e-3) of the largest output",
  async run(report) {
    const folder = shared("conformance/quantised");
    const engines = await bothEngines();
    let [cases, holds] = [0, folder !== undefined];
    const apartBy: Record<string, number> = {};
    for (const file of folder ? FILES : []) {
      for (const [name, targets] of Object.entries(TARGETS)) {
        const met = await measure(`${folder}/bert.${file}.onnx`, targets, engines);
        report(`${file}, ${name}: ${JSON.stringify(met)}`);
        const fell = Object.values(met.losses).every(([from, to]) => to < FALL * from);
        holds &&= fell && met.baseIntact && met.tensorsIntact && met.emptyIsBase;
        holds &&= met.attachedVersusInjected <= (APART[file] ?? 1e-5);
        apartBy[file] = Math.max(apartBy[file] ?? 0, met.attachedVersusInjected);
        cases++;
      }
    }
    return { figures: { cases, attachedVersusInjected: apartBy }, holds: holds && cases === 10 };
  },
};

async function measure(
  path: string,
  targets: "all-linear" | readonly string[],
  engines: readonly Engine[],
): Promise<Met> {
  const bytes = new Uint8Array(readFileSync(path));
  const before = sha256Hex(bytes);
  const beside = (location: string) => new Uint8Array(readFileSync(path.replace(/[^/]*$/, location)));
  const model = read(bytes, { externalData: beside });
  const adapter = resolve(model, { rank: 4, alpha: 8, targets });
  const batch = batchFor(model.graph, ROWS);
  const lesson = lessonOf(model.graph, adapter, batch);
  const start = initialAdapter(adapter, seededRandom("claims/graph: quantised"), model);
  const losses: Record<string, readonly [number, number]> = {};
  let trained = start as ReadonlyMap<string, Float32Array>;
  for (const engine of engines) {
    const taught = await teach(engine, lesson, { adapter, start, steps: STEPS, rate: RATE });
    losses[engine.name] = [taught.losses[0]!, taught.losses.at(-1)!];
    trained = taught.tensors;
  }
  const file = attach(bytes, adapter);
  const run = runner(beside);
  const empty = new Map([...batch, ...emptyFeeds(adapter)]);
  const bits = async (level: Level) => equal(await run(file, empty, level), await run(bytes, batch, level));
  const attached = await run(file, new Map([...batch, ...attachedFeeds(adapter, trained)]), "disabled");
  const injected = await stepOnce(
    literal,
    lesson.injected,
    new Map([...batch, ...asFeeds(adapter, trained)]),
  );
  const gap = apart(attached, injected.values().next().value!) / Math.max(...attached.map(Math.abs));
  return {
    modules: adapter.modules.length,
    losses,
    baseIntact: before === sha256Hex(bytes) && equalBytes(detach(file), bytes),
    tensorsIntact: sameTensors(bytes, file, beside),
    emptyIsBase: (await bits("disabled")) && (await bits("all")),
    attachedVersusInjected: gap,
  };
}

/** A tensor as the file holds it, whichever field its values stand in; or where they lie outside. */
const encoded = (tensor: TensorProto): Uint8Array => encode(TensorProtoSchema, tensor);

/** Every initializer's message, and what is read of it, external data included. */
function sameTensors(bytes: Uint8Array, file: Uint8Array, externalData: (at: string) => Uint8Array): boolean {
  const [was, is] = [bytes, file].map((some) => read(some, { externalData }).proto.graph!.initializer);
  return (
    was!.length === is!.length && was!.every((tensor, at) => equalBytes(encoded(tensor), encoded(is![at]!)))
  );
}

function equal(a: Float32Array, b: Float32Array): boolean {
  return equalBytes(new Uint8Array(a.slice().buffer), new Uint8Array(b.slice().buffer));
}

type Level = "disabled" | "all";

/** Runs a file in onnxruntime; the file beside it is handed over, as a browser has to. */
function runner(beside: (location: string) => Uint8Array) {
  const path = "bert.extdata.onnx.data";
  return async (bytes: Uint8Array, feeds: Tensors, level: Level): Promise<Float32Array> => {
    const session = await ort.InferenceSession.create(bytes, {
      ...{ intraOpNumThreads: 1, graphOptimizationLevel: level, logSeverityLevel: 3 },
      externalData: [{ path, data: beside(path) }],
    });
    const inputs = [...feeds].map(([name, { dtype, data, shape }]) => {
      return [name, new ort.Tensor(dtype as Exclude<DType, "string">, data as never, shape)] as const;
    });
    const { output } = await session.run(Object.fromEntries(inputs));
    await session.release();
    return output!.data as Float32Array;
  };
}
