import type { AdapterSpec } from "@tutti/adapter/spec";
import { Fault } from "@tutti/foundation/fault";
import type { Bind } from "@tutti/graph/bind";
import type { Dimension, Graph } from "@tutti/graph/ir";
import type { Loss, LossKind } from "@tutti/graph/loss";
import { type Command, InvalidArgumentError, Option } from "commander";
import { integerIn, positive } from "../../action.ts";

export type SizeOptions = {
  readonly batch: number;
  readonly length: number;
  readonly shape: Readonly<Record<string, readonly number[]>>;
};

export function sizeOptions(command: Command): Command {
  return command
    .option("--batch <number>", "rows, where the model leaves that open", integerIn(1, 1 << 20), 8)
    .option("--length <number>", "any other size that the model leaves open", integerIn(1, 1 << 20), 16)
    .option("--shape <name=sizes>", "an input's whole shape, as in ids=1x40; may be repeated", shapes, {});
}

function shapes(text: string, before: SizeOptions["shape"]): SizeOptions["shape"] {
  const [, name, sizes] = /^(.+)=(\d+(?:x\d+)*)$/.exec(text) ?? [];
  if (name === undefined || sizes === undefined)
    throw new InvalidArgumentError("Expected an input's name and its sizes, as in ids=1x40.");
  return { ...before, [name]: sizes.split("x").map(Number) };
}

/**
 * Every size that the model leaves open: given shapes as they are, the first dimension of an input `batch`,
 * any other `length`. A name means one size wherever it stands.
 * @throws Fault("bad-input") for a given size where the model fixes another.
 */
export function bindOf({ inputs }: Graph, { batch, length, shape: given }: SizeOptions): Bind {
  refuseOtherSizes(inputs, given);
  const symbols = new Map<string, number>();
  for (const { name, shape } of inputs) {
    for (const [axis, dimension] of (shape ?? []).entries()) {
      const size = given[name]?.[axis];
      if (typeof dimension === "string" && size !== undefined) symbols.set(dimension, size);
    }
  }
  const sizeOf = (dimension: Dimension, axis: number): number => {
    if (typeof dimension === "number") return dimension;
    const size = (dimension === null ? undefined : symbols.get(dimension)) ?? (axis === 0 ? batch : length);
    if (dimension !== null) symbols.set(dimension, size);
    return size;
  };
  const open = inputs
    .filter(({ name, shape }) => given[name] === undefined && shape !== null)
    .map(({ name, shape }) => [name, shape!.map(sizeOf)] as const);
  return { shapes: { ...Object.fromEntries(open), ...given } };
}

/**
 * The library lets a caller ask for other sizes than the file fixes, if its nodes bear them; someone who
 * types a shape rather mistook the model.
 */
function refuseOtherSizes(inputs: Graph["inputs"], given: SizeOptions["shape"]): void {
  for (const { name, shape } of inputs) {
    const sizes = given[name];
    if (!shape || shape.length !== sizes?.length) continue;
    if (!shape.some((own, axis) => typeof own === "number" && own !== sizes[axis])) continue;
    const expected = `[${shape.map((own) => own ?? "?")}], as the model fixes it`;
    throw new Fault("bad-input", `--shape ${name}`, { expected, got: `[${sizes}]` });
  }
}

/** The batch that the model runs at whatever is asked for; undefined where `--batch` says something. */
export function fixedBatch(graph: Graph, options: SizeOptions): number | undefined {
  const at = (batch: number) => bindOf(graph, { ...options, batch }).shapes ?? {};
  if (JSON.stringify(at(1)) !== JSON.stringify(at(2))) return undefined;
  const [first] = graph.inputs;
  return (first && at(1)[first.name]?.[0]) ?? 1;
}

/** Says on stderr that a `--batch` that was typed, not left at its default, changes nothing. */
export function sayFixedBatch(command: Command, graph: Graph, options: SizeOptions): void {
  if (command.getOptionValueSource("batch") !== "cli") return;
  const fixed = fixedBatch(graph, options);
  if (fixed === undefined || fixed === options.batch) return;
  const why = graph.inputs.some(({ name }) => options.shape[name]) ? "--shape or the model" : "the model";
  process.stderr.write(`--batch has no effect: ${why} fixes its batch at ${fixed}\n`);
}

export type AdapterOptions = {
  readonly targets?: readonly string[];
  readonly save?: readonly string[];
  readonly rank: number;
  readonly alpha?: number;
};

/** What is trained where neither targets nor tensors are named: said in the help of every command alike. */
const FIRST = "default: the first choice of `tutti graph inspect`";

export function adapterOptions(command: Command, fallback = FIRST): Command {
  return command
    .option("--targets <patterns>", `modules to adapt, comma-separated, or all-linear (${fallback})`, list)
    .option("--save <patterns>", "modules or tensors to train whole, comma-separated", list)
    .option("--rank <number>", "rank of the factors", integerIn(1, 4096), 8)
    .option("--alpha <number>", "alpha of the adapter (default: twice the rank)", positive);
}

function list(text: string): readonly string[] {
  return text.split(",").map((part) => part.trim());
}

/** What the options ask for; nothing where they name neither targets nor tensors. */
export function specOf({ targets, save, rank, alpha = 2 * rank }: AdapterOptions): AdapterSpec | undefined {
  if (targets === undefined && save === undefined) return undefined;
  const all = targets?.length === 1 && targets[0] === "all-linear";
  return { rank, alpha, targets: all ? "all-linear" : (targets ?? []), ...(save && { save }) };
}

export type LossChoice = { readonly loss: LossKind; readonly output?: string };

const LOSSES = [
  "softmax-cross-entropy",
  "next-token",
  "binary-cross-entropy",
  "mean-squared-error",
  "huber",
  "contrastive-pair",
] satisfies readonly LossKind[];

export function lossOptions(command: Command): Command {
  const loss = new Option("--loss <kind>", "what training lowers").choices(LOSSES);
  return command
    .addOption(loss.default("softmax-cross-entropy" satisfies LossKind))
    .option("--output <name>", "the value the loss is taken of (default: the first output)");
}

export function lossOf({ loss, output }: LossChoice): Loss & { readonly output?: string } {
  return { kind: loss, ...(output !== undefined && { output }) };
}

/** A Fault's sentence with the file it is about before it. */
export async function about<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof Fault) || cause.message.includes(path)) throw cause;
    const { expected, got, todo } = cause.detail;
    throw new Fault(cause.code, `${path}: ${cause.what}`, {
      cause,
      ...(expected && { expected }),
      ...(got && { got }),
      ...(todo && { todo }),
    });
  }
}
