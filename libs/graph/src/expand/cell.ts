import type { Ops } from "../ops.ts";
import type { Site } from "../site.ts";

export type Activation = (x: string) => string;

/** What a function's α and β are unless the node says so; undefined where it has none. */
type Known = {
  readonly alpha?: number | "given";
  readonly beta?: number | "given";
  readonly emit: (ops: Ops, x: string, to: { alpha: number; beta: number }) => string;
};

const plain = (op: string): Known => ({ emit: (ops, x) => ops.op(op, [x]) });

/**
 * The functions the standard allows inside a cell, with the defaults of the operators of these names. Affine
 * and ScaledTanh are no operators any more, so theirs must be given (RNN, since version 7, activations).
 */
const FUNCTIONS: Readonly<Record<string, Known>> = {
  sigmoid: plain("Sigmoid"),
  tanh: plain("Tanh"),
  relu: plain("Relu"),
  softsign: plain("Softsign"),
  softplus: plain("Softplus"),
  affine: {
    ...{ alpha: "given", beta: "given" },
    emit: (ops, x, { alpha, beta }) => ops.add(ops.scale(x, alpha), ops.number(beta, x)),
  },
  scaledtanh: {
    ...{ alpha: "given", beta: "given" },
    emit: (ops, x, { alpha, beta }) => ops.scale(ops.op("Tanh", [ops.scale(x, beta)]), alpha),
  },
  hardsigmoid: {
    ...{ alpha: 0.2, beta: 0.5 },
    emit: (ops, x, { alpha, beta }) =>
      ops.op("HardSigmoid", [x], { alpha: { float: alpha }, beta: { float: beta } }),
  },
  leakyrelu: {
    alpha: 0.01,
    emit: (ops, x, { alpha }) => ops.op("LeakyRelu", [x], { alpha: { float: alpha } }),
  },
  elu: { alpha: 1, emit: (ops, x, { alpha }) => ops.op("Elu", [x], { alpha: { float: alpha } }) },
  thresholdedrelu: {
    alpha: 1,
    emit: (ops, x, { alpha }) => ops.gate(ops.op("Greater", [x, ops.number(alpha, x)]), x),
  },
};

/**
 * Activation functions of direction `d`, each with `clip` before it. `activations` lists both directions'
 * names, one after the other; each function that has an α (or β) takes the next of `activation_alpha`
 * (or `activation_beta`), over both directions, and its default once the list is used up.
 */
export function activationsOf(
  at: Site,
  ops: Ops,
  { names, d }: { names: readonly string[]; d: number },
): readonly Activation[] {
  const given = at.node.attributes.get("activations");
  const all = given?.kind === "strings" ? given.value : [...names, ...names];
  const knowns = all.map((name) => known(at, name));
  const take = { alpha: taker(at, "activation_alpha"), beta: taker(at, "activation_beta") };
  const settings = knowns.map(({ alpha, beta }) => ({
    alpha: alpha === undefined ? 0 : take.alpha(alpha),
    beta: beta === undefined ? 0 : take.beta(beta),
  }));
  const first = d * names.length;
  return names.map((_, i) => {
    const found = knowns[first + i];
    if (!found)
      throw at.fault("bad-input", "attribute activations", {
        expected: `${first + names.length} names`,
        got: `${all.length}`,
      });
    return (x) => found.emit(ops, i < GATES ? clipped(at, ops, x) : x, settings[first + i]!);
  });
}

/** Names are compared without case, as onnxruntime does. */
function known(at: Site, name: string): Known {
  const found = Object.hasOwn(FUNCTIONS, name.toLowerCase()) ? FUNCTIONS[name.toLowerCase()] : undefined;
  if (found) return found;
  throw at.fault("unsupported", "attribute activations", {
    expected: `one of ${Object.keys(FUNCTIONS).join(", ")}`,
    got: name,
  });
}

/** Hands out a list's values one by one, then the default. */
function taker(at: Site, name: string): (fallback: number | "given") => number {
  const given = at.node.attributes.get(name);
  const values = given?.kind === "floats" ? [...given.value] : [];
  return (fallback) => {
    const value = values.shift() ?? fallback;
    if (value !== "given") return value;
    throw at.fault("bad-input", `attribute ${name}`, {
      expected: "a value for each function",
      got: "too few",
    });
  };
}

/**
 * f and g bound what they see; LSTM's h reads the cell unbounded, as in onnxruntime, where the standard could
 * be read either way.
 */
const GATES = 2;

/** `clip` bounds what goes into an activation to ±clip (since version 7). */
function clipped(at: Site, ops: Ops, x: string): string {
  if (!at.node.attributes.has("clip")) return x;
  const bound = at.float("clip");
  if (ops.build.opset < 11) return ops.op("Clip", [x], { min: { float: -bound }, max: { float: bound } });
  return ops.op("Clip", [x, ops.number(-bound, x), ops.number(bound, x)]);
}
