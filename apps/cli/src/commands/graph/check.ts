import { nodeEngine } from "@tutti/client-sdk/node/engine";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { inspect } from "@tutti/graph/inspect";
import type { Engine, Tensors } from "@tutti/graph/ir";
import type { Model } from "@tutti/graph/read";
import { Command } from "commander";
import { integerIn, withContext } from "../../action.ts";
import { openModel } from "../../model-file.ts";
import type { Output } from "../../output.ts";
import { feedsFor } from "./feeds.ts";
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
} from "./options.ts";
import { type Slope, slopeOf, TOLERANCE } from "./slopes.ts";
import { type Derived, derived, specOrFirst } from "./step.ts";

type Options = AdapterOptions & SizeOptions & LossChoice & { tensors: number; seed: string };

/**
 * Engines may differ by this much of a gradient's largest element. Where values are rounded to levels, one
 * last bit may put a value on the next level, on either engine.
 */
const [APART, APART_LEVELS] = [1e-4, 0.05] as const;

export function checkCommand(): Command {
  const command = new Command("check")
    .description(
      "Check a model's gradients: against differences of the loss " +
        `(within ${100 * TOLERANCE} % of the slope or the gradient's norm, and what float32 rounds away), ` +
        `and on both engines (within ${APART} of its largest element). Exit code 1 where they disagree. ` +
        "A slope is unclear where float32 rounds away what was to be seen: it counts for nothing.",
    )
    .argument("<model>", "an ONNX file")
    .option("--tensors <number>", "how many of the adapter's tensors to check", integerIn(1, 100_000), 12)
    .option("--seed <text>", "seed of the batch and of the directions", "tutti graph check");
  return lossOptions(sizeOptions(adapterOptions(command))).action((path: string, options: Options) =>
    withContext(command, ({ output }) =>
      about(path, async () => {
        const { model } = await openModel(path);
        sayFixedBatch(command, model.graph, options);
        const found = await checked(model, options, output);
        output.result(found, sentence(found));
        demand(found.agrees, () => {
          const detail = { expected: "engines and slopes that agree", got: "a difference, see above" };
          return new Fault("internal", "gradients", detail);
        });
      }),
    ),
  );
}

async function checked(model: Model, options: Options, output: Output) {
  const made = derived(model, {
    adapter: specOrFirst(model, options),
    bind: bindOf(model.graph, options),
    loss: lossOf(options),
  });
  const random = seededRandom(options.seed);
  const feeds = feedsFor(model, made, { loss: lossOf(options), random });
  const engines = [await nodeEngine("tfjs"), await nodeEngine("onnxruntime")];
  const runs = [];
  for (const engine of engines) {
    output.say(`a step of ${made.step.nodes.length} nodes on ${engine.name}`);
    runs.push(await once(engine, made, feeds));
  }
  const [one, other] = runs as [Run, Run];
  const { values: levels } = inspect(model).quantised;
  const gap = gapOf(one, other);
  const slopes = levels ? [] : await slopesOf(made, { engine: engines[1]!, feeds, run: other, options });
  for (const slope of slopes) output.say(line(slope));
  if (levels)
    output.say("values are rounded to levels: the loss is a staircase, and has no slope to compare");
  const allowed = levels ? APART_LEVELS : APART;
  const same = gap.worst <= allowed;
  return {
    engines: engines.map(({ name }) => name),
    losses: runs.map(({ loss }) => loss),
    apart: { ...gap, allowed },
    tolerance: TOLERANCE,
    tensors: made.adapter.tensors.length,
    slopes,
    straightThrough: levels,
    agrees: same && slopes.every(({ verdict }) => verdict !== "differs"),
  };
}

type Run = { readonly loss: number; readonly gradients: ReadonlyMap<string, Float32Array> };

async function once(engine: Engine, { step, adapter }: Derived, feeds: Tensors): Promise<Run> {
  const program = await engine.load(step);
  try {
    const results = await program.step(feeds);
    const data = (name: string) => results.get(name)!.data as Float32Array;
    const gradients = adapter.tensors.map(({ name }) => [name, data(`grad.${name}`)] as const);
    return { loss: data("loss")[0]!, gradients: new Map(gradients) };
  } finally {
    await program.dispose();
  }
}

/** The largest difference, of a gradient's largest element; NaN agrees with nothing. */
function gapOf(one: Run, other: Run): { readonly worst: number; readonly tensor: string } {
  let found = { worst: 0, tensor: "" };
  for (const [tensor, values] of one.gradients) {
    const others = other.gradients.get(tensor)!;
    const size = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-20);
    const worst = values.reduce((most, value, at) => Math.max(most, Math.abs(value - others[at]!)), 0) / size;
    if (!(worst <= found.worst)) found = { worst: Number.isNaN(worst) ? Number.MAX_VALUE : worst, tensor };
  }
  return found;
}

type SlopesOptions = {
  readonly engine: Engine;
  readonly feeds: Tensors;
  readonly run: Run;
  readonly options: Options;
};

/** Tensors evenly over the adapter, so that early and late layers are among them. */
async function slopesOf(made: Derived, { engine, feeds, run, options }: SlopesOptions) {
  const { tensors } = made.adapter;
  const count = Math.min(options.tensors, tensors.length);
  const program = await engine.load(made.judged);
  const slopes: Slope[] = [];
  try {
    for (let n = 0; n < count; n++) {
      const tensor = tensors[Math.floor((n * tensors.length) / count)]!.name;
      for (const direction of ["uphill", "random"] as const) {
        const random = seededRandom(`${options.seed}/${direction}/${tensor}`);
        const { gradients } = run;
        slopes.push(await slopeOf(tensor, { direction, program, feeds, gradients, random }));
      }
    }
  } finally {
    await program.dispose();
  }
  return slopes;
}

function line({ tensor, direction, verdict, derived: slope, measured, unsure }: Slope): string {
  const seen = `${measured.toPrecision(5)} ± ${unsure.toPrecision(1)} measured`;
  const by = `${slope.toPrecision(5)} derived, ${seen}`;
  return `${verdict}: ${tensor}, ${direction}: slope ${by}`;
}

function sentence({ engines, apart, slopes, agrees, straightThrough }: Awaited<ReturnType<typeof checked>>) {
  const count = (verdict: string) => slopes.filter((slope) => slope.verdict === verdict).length;
  const at = apart.tensor === "" ? "" : ` (${apart.tensor})`;
  const met = `${engines.join(" and ")} ${apart.worst.toPrecision(2)} apart at most${at}`;
  const counts = `${count("agrees")} slopes agree, ${count("differs")} differ, ${count("unclear")} unclear`;
  // Slopes that float32 rounds away are no evidence, and nobody should take them for some.
  const blind = count("agrees") + count("differs") === 0;
  const numeric = straightThrough ? "no slopes" : blind ? "no slope is large enough for float32" : counts;
  const verdict = !agrees ? "gradients DISAGREE" : blind ? "engines agree" : "gradients agree";
  return `${verdict}: ${met}; ${numeric}`;
}
