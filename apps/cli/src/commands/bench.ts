import { nodeEngine } from "@tutti/client-sdk/node/engine";
import { systemClock } from "@tutti/foundation/clock";
import { seededRandom } from "@tutti/foundation/random";
import type { Engine } from "@tutti/graph/ir";
import { transformer } from "@tutti/graph/make/transformer";
import { constantBytes, peakBytes } from "@tutti/graph/memory";
import { type Model, read } from "@tutti/graph/read";
import { write } from "@tutti/graph/write";
import { Command } from "commander";
import { integerIn, withContext } from "../action.ts";
import {
  contender,
  type GraphBench,
  graphBench,
  quartilesOf,
  race,
  ratioOf,
  type Spread,
} from "../bench/graph.ts";
import { openModel } from "../model-file.ts";
import {
  type AdapterOptions,
  about,
  adapterOptions,
  bindOf,
  type LossChoice,
  lossOf,
  lossOptions,
  type SizeOptions,
  sayFixedBatch,
  sizeOptions,
} from "./graph/options.ts";
import { specOrFirst } from "./graph/step.ts";

type Options = AdapterOptions & SizeOptions & LossChoice & { rounds: number };

export function benchCommand(): Command {
  return new Command("bench").description("Measure on this machine.").addCommand(benchGraphCommand());
}

function benchGraphCommand(): Command {
  const command = new Command("graph")
    .description("How long a training step takes on each engine, and of how many forward passes of the base.")
    .argument("[model]", "an ONNX file (default: a small encoder made here, 4 layers of width 128)")
    .option("--rounds <number>", "timed runs of each", integerIn(1, 10_000), 9);
  return lossOptions(sizeOptions(adapterOptions(command))).action(
    (path: string | undefined, options: Options) =>
      withContext(command, ({ output }) =>
        about(path ?? "bench graph", async () => {
          const model = path === undefined ? made() : (await openModel(path)).model;
          sayFixedBatch(command, model.graph, options);
          const bench = benchOf(model, options);
          const engines = [];
          for (const name of ["tfjs", "onnxruntime"] as const) {
            const engine = await nodeEngine(name);
            output.say(`${options.rounds} rounds on ${engine.name}`);
            engines.push(await measured(engine, bench, options.rounds));
          }
          for (const { engine, stepMs, forwardMs, ratio } of engines) {
            const per = `${shown(ratio)} of a forward pass (${shown(forwardMs)} ms)`;
            output.say(`${engine}: a step takes ${shown(stepMs)} ms, ${per}`);
          }
          const [first, second] = engines;
          const faster = first!.stepMs.median <= second!.stepMs.median ? first! : second!;
          output.result(
            { model: path ?? "made", ...factsOf(bench), engines, faster: faster.engine },
            `${faster.engine} is the faster one here; medians, quartiles in brackets`,
          );
        }),
      ),
  );
}

const clock = systemClock();

function benchOf(model: Model, options: Options): GraphBench {
  return graphBench(model, {
    adapter: specOrFirst(model, options),
    bind: bindOf(model.graph, options),
    loss: lossOf(options),
    random: seededRandom("bench graph"),
    clock,
  });
}

/** Something to measure where no model is given. */
function made(): Model {
  return read(
    write(
      transformer({
        kind: "encoder",
        layers: 4,
        width: 128,
        heads: 4,
        vocabulary: 1000,
        length: 512,
        head: { classes: 2 },
        random: seededRandom("bench graph"),
      }),
    ),
  );
}

async function measured(engine: Engine, { traced, step, feeds }: GraphBench, rounds: number) {
  const runners = {
    forward: await contender(engine, traced, feeds),
    step: await contender(engine, step, feeds),
  };
  try {
    const times = await race(runners, { rounds, warmUps: 2, clock });
    return {
      engine: engine.name,
      stepMs: quartilesOf(times.step),
      forwardMs: quartilesOf(times.forward),
      ratio: ratioOf(times.step, times.forward),
    };
  } finally {
    for (const runner of Object.values(runners)) await runner.dispose();
  }
}

function factsOf({ adapter, step, deriveMs }: GraphBench) {
  return {
    modules: adapter.modules.length,
    tensors: adapter.tensors.length,
    nodes: step.nodes.length,
    deriveMs,
    stepBytes: peakBytes(step),
    constantBytes: constantBytes(step),
  };
}

function shown({ median, low, high }: Spread): string {
  const [a, b, c] = [median, low, high].map((value) => value.toPrecision(3));
  return `${a} [${b}, ${c}]`;
}
