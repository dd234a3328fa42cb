import { inject } from "@tutti/adapter/inject";
import { resolve } from "@tutti/adapter/resolve";
import type { ResolvedAdapter } from "@tutti/adapter/spec";
import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { SeededRandom } from "@tutti/foundation/random";
import { differentiate } from "@tutti/graph/differentiate";
import {
  type Engine,
  float32,
  type Program,
  type Tensors,
  type TracedGraph,
  type ValueInfo,
} from "@tutti/graph/ir";
import { withLoss } from "@tutti/graph/loss";
import { type Model, read } from "@tutti/graph/read";
import { trace } from "@tutti/graph/trace";
import { widened } from "@tutti/graph/widen";
import type { Plan } from "@tutti/plan/plan";
import { batches, type Examples } from "@tutti/train/batches";
import { evaluate, fit } from "@tutti/train/fit";
import {
  adagrad,
  adamW,
  chain,
  clipNorm,
  type GradientRule,
  type Optimiser,
  proximal,
  type Rate,
  sgd,
} from "@tutti/train/optimiser";
import { cosine, linear, warmUp } from "@tutti/train/schedule";
import { flatten, type Layout, layoutOf, type TensorSpec, unflatten } from "@tutti/update/layout";
import type { Parameters } from "./vector.ts";

export type TrainOptions = {
  /** Every tensor of the adapter by name; not changed. */
  readonly parameters: Parameters;
  /** Those that move; the others stay as they are. */
  readonly active: readonly TensorSpec[];
  readonly examples: Examples;
  /** Batches of plan.train.batchSize rows. */
  readonly steps: number;
  readonly random: SeededRandom;
  readonly onStep?: (step: number, loss: number) => void;
  /** Awaited before each batch: where training gives way to the network, the page, and others. */
  readonly pause?: () => Promise<void>;
  readonly signal?: AbortSignal;
};

/** `loss` is the mean per row met; `examples` counts the distinct rows trained on. */
export type Trained = { readonly parameters: Parameters; readonly loss: number; readonly examples: number };

/** Sums over all rows. */
export type Score = { readonly examples: number; readonly lossSum: number; readonly correct: number };

export type Trainer = {
  readonly adapter: ResolvedAdapter;
  readonly engine: string;
  /** While something runs on it. */
  readonly busy: boolean;
  /** The base model's own inputs. */
  readonly inputs: readonly ValueInfo[];
  train(options: TrainOptions): Promise<Trained>;
  evaluate(options: { parameters: Parameters; examples: Examples }): Promise<Score>;
  dispose(): Promise<void>;
};

/** What it takes to train: the base ONNX file, the signed plan, and something that runs graphs. */
type TrainerOptions = { readonly base: Uint8Array; readonly plan: Plan; readonly engine: Engine };

/**
 * Trains a plan's adapter of a base model: read → trace → inject → loss → differentiate → run
 * (docs/architecture.md, Training is an ONNX graph). Programs are made when first needed, one per set of
 * active tensors, and kept until `dispose`.
 * @throws Fault("refused") when the base is not the plan's, or does not resolve to the plan's tensors.
 */
export async function openTrainer({ base, plan, engine }: TrainerOptions): Promise<Trainer> {
  const got = sha256Hex(base);
  demand(
    got === plan.base.sha256,
    () => new Fault("refused", "base model", { expected: `SHA-256 ${plan.base.sha256}`, got }),
  );
  const model = read(base);
  const adapter = resolve(model, plan.adapter);
  checkTensors(adapter.tensors, plan.tensors);
  const programs = programsOf({ model, adapter, plan, engine });
  const all = layoutOf(plan.tensors);
  const { batchSize } = plan.train;
  let running = 0;
  async function counted<T>(work: () => Promise<T>): Promise<T> {
    running++;
    try {
      return await work();
    } finally {
      running--;
    }
  }
  const trainer: Trainer = {
    adapter,
    // Asked anew: "auto" has a name only when its first step has chosen.
    get engine() {
      return engine.name;
    },
    busy: false,
    inputs: model.graph.inputs,
    dispose: programs.dispose,
    async train({ parameters, active, examples, steps, random, onStep, pause, signal }) {
      const layout = layoutOf(active);
      const fitted = await fit({
        program: await programs.get(layout, examples),
        layout,
        parameters: flatten(layout, parameters),
        fixed: fixedOf(all, layout, parameters),
        batches: pausing(batches(examples, { batchSize, steps, random }), pause),
        optimiser: optimiserOf(plan.train),
        ...(onStep && { onStep }),
        ...(signal && { signal }),
      });
      const moved = unflatten(layout, fitted.parameters);
      const rows = Math.min(examples.count, steps * batchSize);
      return { parameters: new Map([...parameters, ...moved]), loss: fitted.loss, examples: rows };
    },
    async evaluate({ parameters, examples }) {
      if (examples.count === 0) return { examples: 0, lossSum: 0, correct: 0 };
      const program = await programs.get(NONE, examples);
      const fixed = fixedOf(all, NONE, parameters);
      const options = { program, layout: NONE, parameters: new Float32Array(0), fixed, examples, batchSize };
      const { lossSum, correct, count } = await evaluate(options);
      return { examples: count, lossSum, correct };
    },
  };
  return {
    ...trainer,
    get engine() {
      return trainer.engine;
    },
    get busy() {
      return running > 0;
    },
    train: (options) => counted(() => trainer.train(options)),
    evaluate: (options) => counted(() => trainer.evaluate(options)),
  };
}

const NONE = layoutOf([]);

async function* pausing(given: AsyncIterable<Tensors>, pause?: () => Promise<void>): AsyncGenerator<Tensors> {
  for await (const batch of given) {
    await pause?.();
    yield batch;
  }
}

type Sources = { model: Model; adapter: ResolvedAdapter; plan: Plan; engine: Engine };

function programsOf(sources: Sources) {
  const held = new Map<string, Promise<Program>>();
  return {
    async get(layout: Layout, examples: Examples): Promise<Program> {
      const shapes = await shapesOf(examples, sources.plan.train.batchSize);
      const key = JSON.stringify([layout.tensors.map(({ name }) => name), shapes]);
      const program = held.get(key) ?? sources.engine.load(graphFor(sources, layout, shapes));
      held.set(key, program);
      return program;
    },
    async dispose(): Promise<void> {
      const programs = [...held.values()];
      held.clear();
      for (const program of programs) await (await program).dispose();
    },
  };
}

/**
 * Sizes of the model's inputs: the rows of a batch, and beyond the first dimension what the data's rows
 * have.
 */
async function shapesOf(examples: Examples, batchSize: number): Promise<Record<string, readonly number[]>> {
  const row: Tensors = await examples.take([0]);
  const inputs = [...row].filter(([name]) => name !== "label");
  return Object.fromEntries(inputs.map(([name, { shape }]) => [name, [batchSize, ...shape.slice(1)]]));
}

/** Data → loss → one gradient per active tensor, as one graph; without active tensors the loss alone. */
function graphFor(
  { model, adapter, plan }: Sources,
  { tensors }: Layout,
  shapes: Record<string, readonly number[]>,
): TracedGraph {
  const injected = inject(trace(widened(model.graph), { shapes }), adapter);
  const judged = withLoss(injected, typeof plan.loss === "string" ? { kind: plan.loss } : plan.loss);
  if (tensors.length === 0) return judged;
  return differentiate(judged, { loss: "loss", wrt: tensors.map(({ name }) => name) });
}

/** Every adapter tensor that does not move, as feeds of the graph. */
function fixedOf(all: Layout, active: Layout, parameters: Parameters): Tensors {
  const moving = new Set(active.tensors.map(({ name }) => name));
  const still = all.tensors.filter(({ name }) => !moving.has(name));
  return new Map(
    still.map(({ name, shape }) => {
      const data = parameters.get(name);
      assert(data, `parameters hold ${name}`);
      return [name, float32(shape, data)];
    }),
  );
}

function optimiserOf(train: Plan["train"]): Optimiser<unknown> {
  const { optimiser, clipGradient, proximal: mu } = train;
  const rules: GradientRule<unknown>[] = [];
  if (clipGradient !== undefined) rules.push(clipNorm(clipGradient) as GradientRule<unknown>);
  if (mu !== undefined) rules.push(proximal(mu) as GradientRule<unknown>);
  const learningRate = rateOf(train);
  switch (optimiser.name) {
    case "sgd":
      return chain(rules, sgd({ ...optimiser, learningRate })) as Optimiser<unknown>;
    case "adamw":
      return chain(rules, adamW({ ...optimiser, learningRate })) as Optimiser<unknown>;
    case "adagrad":
      return chain(rules, adagrad({ learningRate })) as Optimiser<unknown>;
  }
}

/** The rate at each step of a round; optimisers begin anew in every round, and so does the schedule. */
function rateOf({ optimiser, schedule, steps }: Plan["train"]): Rate {
  const from = optimiser.learningRate;
  if (schedule === undefined) return from;
  const { name, warmUp: rise = 0, to = 0 } = schedule;
  const course = { from, to, steps: Math.max(1, steps - rise) };
  const after = name === "constant" ? () => from : name === "linear" ? linear(course) : cosine(course);
  return rise === 0 ? after : warmUp(rise, after);
}

/** docs/attacks.md, attack 6: a plan that asks for tensors the base does not have under its adapter. */
function checkTensors(own: readonly TensorSpec[], asked: readonly TensorSpec[]): void {
  const show = (tensors: readonly TensorSpec[]) => tensors.map(({ name, shape }) => `${name} [${shape}]`);
  const [here, there] = [show(own), show(asked)];
  const at = Math.max(here.length, there.length);
  for (let i = 0; i < at; i++) {
    const detail = { expected: here[i] ?? "no more tensors", got: there[i] ?? "no more tensors" };
    demand(here[i] === there[i], () => new Fault("refused", `plan, tensor ${i} of the adapter`, detail));
  }
}
