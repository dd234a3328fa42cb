import { assert } from "@tutti/foundation/check";
import { type Builder, builderOn } from "./builder.ts";
import type { Attribute, Node, TracedGraph } from "./ir.ts";
import { axisOf, type Ops, opsOn, range } from "./ops.ts";
import { Site } from "./site.ts";
import { tensorOf } from "./tensor.ts";

/** ScatterND adds from 16 on, which the gradients of all gathers are written with. */
const OLDEST = 16;

/** What older graphs become: every operator that gradients, losses and side paths are written in is there. */
const RAISED = 18;

/**
 * A graph that losses, side paths and gradients can be added to: itself, unless its operator set is older
 * than 16; then the same computation in operator set 18.
 */
export function raisedForTraining(graph: TracedGraph): TracedGraph {
  return graph.opset < OLDEST ? raised(graph, RAISED) : graph;
}

/**
 * A graph of an older operator set said in a newer one, 13 or later, node by node: values keep their names,
 * shapes and meaning, nodes their names and metadata. A graph of that operator set or a newer one is
 * returned as it is.
 */
export function raised(graph: TracedGraph, opset: number): TracedGraph {
  if (graph.opset >= opset) return graph;
  const build = builderOn({ ...graph, opset, nodes: [], outputs: [] });
  const ops = opsOn(build);
  const due = CHANGES.filter(({ since }) => since > graph.opset && since <= opset);
  for (const node of graph.nodes) {
    build.place(due.reduce((current, change) => changed(current, change, ops), node));
  }
  for (const { name } of graph.outputs) build.output(name);
  return build.finish();
}

/** The parts of a node that change; what it emits before it, a rule emits in the new operator set. */
type Form = {
  readonly op?: string;
  readonly inputs?: readonly string[];
  readonly attributes?: ReadonlyMap<string, Attribute>;
};
type Raise = (at: Site, ops: Ops) => Form | undefined;

/** What an operator set changed in the operators it lists (the standard's Changelog.md). */
type Change = { readonly since: number; readonly operators: Readonly<Record<string, Raise>> };

function changed(node: Node, { since, operators }: Change, ops: Ops): Node {
  const raise = node.domain === "" && Object.hasOwn(operators, node.op) ? operators[node.op] : undefined;
  const { build } = ops;
  return { ...node, ...raise?.(new Site(node, { ...build.known, opset: since - 1 }), ops) };
}

/** Attributes without some, and with others. */
function attributes(
  at: Site,
  gone: readonly string[],
  more: readonly (readonly [string, Attribute])[] = [],
): ReadonlyMap<string, Attribute> {
  return new Map([...[...at.node.attributes].filter(([name]) => !gone.includes(name)), ...more]);
}

/** Lists of integers that became inputs, in this order; one the node does not give stays out. */
function listsToInputs(...names: readonly string[]): Raise {
  return (at, { build }) => {
    const lists = names.map((name) => (at.node.attributes.has(name) ? build.ints(at.ints(name)) : undefined));
    if (lists.every((list) => list === undefined)) return undefined;
    const inputs = trimmed([at.input(0), ...lists.map((list) => list ?? "")]);
    return { inputs, attributes: attributes(at, names) };
  };
}

function trimmed(inputs: readonly string[]): readonly string[] {
  return inputs.slice(0, inputs.findLastIndex((name) => name !== "") + 1);
}

/** Attributes that no longer mean anything in inference. */
function without(...names: readonly string[]): Raise {
  return (at) => ({ attributes: attributes(at, names) });
}

const axesToInput = listsToInputs("axes");

/** An attribute that lists no axes means all of size 1; an input need not (infer/shape.ts, Squeeze). */
const squeezed: Raise = (at, ops) =>
  at.ints("axes", []).length > 0 ? axesToInput(at, ops) : { attributes: attributes(at, ["axes"]) };

/** A scalar attribute as a constant of the input's own type. */
function scalar(at: Site, build: Builder, name: string): string {
  if (!at.node.attributes.has(name)) return "";
  return build.constant(tensorOf(at.dtype(0), [], [at.float(name)]));
}

/**
 * Before 13, all axes from `axis` (default 1) on were one (Softmax-11: "coerced into 2D"). Where that is one
 * axis anyway, its name is all that changes.
 */
const coerced: Raise = (at, ops) => {
  const shape = at.shape(0);
  const axis = axisOf(at.int("axis", 1), shape.length);
  if (axis === shape.length - 1) return { attributes: lastAxis(at) };
  const size = (axes: readonly number[]) => axes.reduce((product, i) => product * shape[i]!, 1);
  const rows = size(range(axis));
  const columns = size(range(shape.length).slice(axis));
  const flat = ops.reshape(at.input(0), [rows, columns]);
  const y = ops.op(at.node.op, [flat], { axis: -1 });
  return { op: "Reshape", inputs: [y, ops.build.ints(shape)], attributes: new Map() };
};

function lastAxis(at: Site): ReadonlyMap<string, Attribute> {
  return attributes(at, ["axis"], [["axis", { kind: "int", value: -1 }]]);
}

/**
 * With `spatial` 0, statistics were per place and not per channel, [C, …] (BatchNormalization-7): the same
 * affine map, written out.
 */
const perPlace: Raise = (at, ops) => {
  if (at.int("spatial", 1) !== 0) return without("spatial", "is_test", "consumed_inputs")(at, ops);
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((index) => at.input(index)) as [
    string,
    string,
    string,
    string,
  ];
  const deviation = ops.op("Sqrt", [ops.add(variance, ops.number(at.float("epsilon", 1e-5), variance))]);
  const unit = ops.div(ops.sub(at.input(0), mean), deviation);
  return { op: "Add", inputs: [ops.mul(unit, scale), bias], attributes: new Map() };
};

/** Resize-10 and Upsample: position p of the result is at p / scale, "nearest" the place before it. */
const asymmetric: Raise = (at) => ({
  inputs: [at.input(0), "", at.input(1)],
  attributes: attributes(
    at,
    [],
    [
      ["coordinate_transformation_mode", { kind: "string", value: "asymmetric" }],
      ["nearest_mode", { kind: "string", value: "floor" }],
    ],
  ),
});

/** Upsample-7 held its scales in an attribute. */
const scalesToInput: Raise = (at, { build }) => {
  const scales = at.node.attributes.get("scales");
  if (scales?.kind !== "floats") return undefined;
  const input = build.constant(tensorOf("float32", [scales.value.length], scales.value));
  return { inputs: [at.input(0), input], attributes: attributes(at, ["scales"]) };
};

/** In 11 and 12 an unused `scales` or `sizes` was written as an empty tensor; since 13 it is left out. */
const unusedLeftOut: Raise = (at) => {
  const empty = (index: number) => at.has(index) && at.shape(index).includes(0);
  return { inputs: trimmed(at.node.inputs.map((name, index) => (index > 0 && empty(index) ? "" : name))) };
};

/** Equal parts need `num_outputs` since 18; sizes said in so many words mean the same everywhere. */
const sizesSaid: Raise = (at, { build }) => {
  if (at.has(1)) return undefined;
  const axis = at.axis(at.int("axis", 0), at.shape(0).length);
  const sizes = at.node.outputs.map((name) => (name === "" ? undefined : build.shape(name)[axis]!));
  assert(!sizes.includes(undefined), "all outputs of a Split have names");
  return { inputs: [at.input(0), build.ints(sizes as number[])] };
};

/** One scale and bias per group became one per channel. */
const perChannel: Raise = (at, ops) => {
  const channels = at.shape(0)[1]!;
  const spread = (index: number) => {
    const groups = at.shape(index)[0]!;
    const wide = ops.expand(ops.reshape(at.input(index), [groups, 1]), [groups, channels / groups]);
    return ops.reshape(wide, [channels]);
  };
  return { inputs: [at.input(0), spread(1), spread(2)] };
};

const OTHER_REDUCTIONS = ["Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"];

/** In order; a node goes through every change between its operator set and the new one. */
const CHANGES: readonly Change[] = [
  { since: 7, operators: { Dropout: without("is_test", "consumed_inputs") } },
  { since: 9, operators: { BatchNormalization: perPlace, Upsample: scalesToInput } },
  {
    since: 10,
    operators: {
      Slice: listsToInputs("starts", "ends", "axes"),
      TopK: (at, { build }) =>
        at.has(1)
          ? undefined
          : { inputs: [at.input(0), build.ints([at.int("k")])], attributes: attributes(at, ["k"]) },
      Upsample: (at) => ({ op: "Resize", inputs: at.node.inputs }),
    },
  },
  {
    since: 11,
    operators: {
      Clip: (at, { build }) => ({
        inputs: trimmed([at.input(0), scalar(at, build, "min"), scalar(at, build, "max")]),
        attributes: attributes(at, ["min", "max"]),
      }),
      Pad: (at, { build }) => ({
        inputs: trimmed([at.input(0), build.ints(at.ints("pads")), scalar(at, build, "value")]),
        attributes: attributes(at, ["pads", "value"]),
      }),
      Resize: asymmetric,
      Scatter: (at) => ({ op: "ScatterElements", inputs: at.node.inputs }),
    },
  },
  { since: 12, operators: { Dropout: without("ratio") } },
  {
    since: 13,
    operators: {
      ReduceSum: axesToInput,
      Squeeze: squeezed,
      Unsqueeze: axesToInput,
      Split: listsToInputs("split"),
      Softmax: coerced,
      LogSoftmax: coerced,
      Hardmax: coerced,
      Resize: unusedLeftOut,
    },
  },
  {
    since: 18,
    operators: {
      Split: sizesSaid,
      ...Object.fromEntries(OTHER_REDUCTIONS.map((name) => [`Reduce${name}`, axesToInput])),
    },
  },
  { since: 21, operators: { GroupNormalization: perChannel } },
];
