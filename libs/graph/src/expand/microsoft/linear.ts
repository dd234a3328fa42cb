import { fusedOperand } from "../../infer/microsoft/linear.ts";
import type { Ops } from "../../ops.ts";
import type { Site } from "../../site.ts";
import { convAttributes } from "../parts.ts";
import { single } from "../rule.ts";

/** alpha·A'·B', each operand transposed in its matrices or in its batches (com.microsoft.FusedMatMul). */
export const FusedMatMul = single((at, ops) => {
  const operand = (index: number) => {
    const { order } = fusedOperand(at, index);
    return ops.transpose(at.input(index), order);
  };
  const product = ops.op("MatMul", [operand(0), operand(1)]);
  return ops.scale(product, at.float("alpha", 1));
});

/** FusedMatMul's predecessor, without batches to turn. */
export const TransposeMatMul = FusedMatMul;

/** Gemm, then an activation. */
export const FusedGemm = single((at, ops) => {
  const inputs = [0, 1, 2].filter((index) => at.has(index)).map((index) => at.input(index));
  const product = ops.op("Gemm", inputs, {
    ...{ transA: at.int("transA", 0), transB: at.int("transB", 0) },
    ...{ alpha: { float: at.float("alpha", 1) }, beta: { float: at.float("beta", 1) } },
  });
  const given = ["activation_alpha", "activation_beta"].flatMap((name) =>
    at.node.attributes.has(name) ? [at.float(name)] : [],
  );
  return activated(at, ops, product, given);
});

/**
 * Conv of X `[batch, channels, …]` and W `[filters, channels / group, …]` with a bias `[filters]`, plus a
 * tensor of the result's shape `[batch, filters, …]`, then an activation.
 */
export const FusedConv = single((at, ops) => {
  const bias = at.has(2) ? [at.input(2)] : [];
  const convolved = ops.op("Conv", [at.input(0), at.input(1), ...bias], convAttributes(at));
  const sum = at.has(3) ? ops.add(convolved, at.input(3)) : convolved;
  const given = at.node.attributes.get("activation_params");
  return activated(at, ops, sum, given?.kind === "floats" ? given.value : []);
});

/** The attributes that an activation's parameters stand for, in order. */
const PARAMETERS: ReadonlyMap<string, readonly string[]> = new Map([
  ["Relu", []],
  ["Sigmoid", []],
  ["Tanh", []],
  ["Softsign", []],
  ["Softplus", []],
  ["HardSwish", []],
  ["LeakyRelu", ["alpha"]],
  ["Elu", ["alpha"]],
  ["ThresholdedRelu", ["alpha"]],
  ["HardSigmoid", ["alpha", "beta"]],
]);

function activated(at: Site, ops: Ops, x: string, given: readonly number[]): string {
  const name = at.string("activation", "");
  if (name === "") return x;
  if (name === "Clip") return ops.op("Clip", [x, ops.number(given[0]!, x), ops.number(given[1]!, x)]);
  const names = PARAMETERS.get(name);
  if (!names) throw at.fault("unsupported", "attribute activation", { got: name });
  const known = names.slice(0, given.length).map((key, i) => [key, { float: given[i]! }] as const);
  return ops.op(name, [x], Object.fromEntries(known));
}
