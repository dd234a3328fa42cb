import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Program, Tensors } from "@tutti/graph/ir";
import { flatten, type Layout, unflatten } from "@tutti/update/layout";
import { type Examples, inOrder } from "./batches.ts";
import type { Optimiser } from "./optimiser.ts";

export type FitOptions<State> = {
  /** A graph with loss outputs and `grad.<name>` for every tensor of the layout, loaded on an engine. */
  readonly program: Program;
  readonly layout: Layout;
  /** Starting point, laid out as `layout`; not changed. */
  readonly parameters: Float32Array;
  /** Inputs that stay as they are: the half of an adapter that is frozen this round. */
  readonly fixed?: Tensors;
  readonly batches: AsyncIterable<Tensors> | Iterable<Tensors>;
  readonly optimiser: Optimiser<State>;
  readonly onStep?: (step: number, loss: number) => void;
  readonly signal?: AbortSignal;
};

/** `loss` is the mean over all rows trained on, each at the moment it was met; `steps` counts batches. */
export type Fitted = { readonly parameters: Float32Array; readonly loss: number; readonly steps: number };

/**
 * Trains: per batch one run of the program and one optimiser step.
 * @throws Fault("bad-input") with the step when the loss or gradient is not finite, Fault("cancelled") on
 * abort.
 */
export async function fit<State>(options: FitOptions<State>): Promise<Fitted> {
  const { program, layout, fixed, optimiser, signal } = options;
  let parameters: Float32Array = options.parameters.slice();
  let state = optimiser.begin(layout.length);
  let [steps, lossSum, weightSum] = [0, 0, 0];
  for await (const batch of options.batches) {
    if (signal?.aborted)
      throw new Fault("cancelled", `training after ${steps} steps`, { cause: signal.reason });
    const results = await program.step(feeds({ batch, layout, parameters, fixed }));
    const loss = finite(steps, scalar(results, "loss"));
    const gradient = checked(steps, gradientOf(layout, results));
    [parameters, state] = optimiser.step(parameters, gradient, state);
    lossSum += scalar(results, "loss_sum");
    weightSum += scalar(results, "weight_sum");
    options.onStep?.(steps, loss);
    steps++;
  }
  return { parameters, loss: weightSum === 0 ? 0 : lossSum / weightSum, steps };
}

export type EvaluateOptions = {
  readonly program: Program;
  readonly layout: Layout;
  readonly parameters: Float32Array;
  readonly fixed?: Tensors;
  readonly examples: Examples;
  /** The batch size the program's graph was traced with. */
  readonly batchSize: number;
};

/** Sums over all examples: loss, right answers, and how many there were. */
export type Evaluated = { readonly lossSum: number; readonly correct: number; readonly count: number };

/** Runs the program over all examples without training; a graph with the loss but no gradients is enough. */
export async function evaluate(options: EvaluateOptions): Promise<Evaluated> {
  const { program, layout, parameters, fixed } = options;
  let [lossSum, correct, count] = [0, 0, 0];
  for await (const batch of inOrder(options.examples, options.batchSize)) {
    const results = await program.step(feeds({ batch, layout, parameters, fixed }));
    lossSum += scalar(results, "loss_sum");
    correct += scalar(results, "correct");
    count += scalar(results, "weight_sum");
  }
  return { lossSum, correct, count };
}

type Feeds = { batch: Tensors; layout: Layout; parameters: Float32Array; fixed: Tensors | undefined };

function feeds({ batch, layout, parameters, fixed }: Feeds): Tensors {
  const all = new Map([...batch, ...(fixed ?? [])]);
  const views = unflatten(layout, parameters);
  for (const { name, shape } of layout.tensors)
    all.set(name, { dtype: "float32", shape, data: views.get(name)! });
  return all;
}

function gradientOf(layout: Layout, results: Tensors): Float32Array {
  const named = layout.tensors.map(({ name }) => [name, result(results, `grad.${name}`)] as const);
  return flatten(layout, new Map(named));
}

function scalar(results: Tensors, name: string): number {
  return result(results, name)[0]!;
}

function result(results: Tensors, name: string): Float32Array {
  const tensor = results.get(name);
  assert(tensor?.dtype === "float32", `the program has no float32 output ${name}`);
  return tensor.data as Float32Array;
}

function finite(step: number, loss: number): number {
  demand(Number.isFinite(loss), () => diverged(step, { expected: "a finite loss", got: `${loss}` }));
  return loss;
}

function checked(step: number, gradient: Float32Array): Float32Array {
  const at = gradient.findIndex((value) => !Number.isFinite(value));
  demand(at === -1, () =>
    diverged(step, { expected: "a finite gradient", got: `${gradient[at]} at coordinate ${at}` }),
  );
  return gradient;
}

function diverged(step: number, detail: { expected: string; got: string }): Fault {
  const todo = "Lower the learning rate or clip the gradient, and look for extreme values in the data";
  return new Fault("bad-input", `training step ${step}`, { ...detail, todo });
}
