import { dtypeOf } from "../onnx/dtype.ts";
import type { Site } from "../site.ts";
import { numbers } from "../tensor.ts";
import { broadcast, demandFits, demandSingle, type InferRule, one, same, sameDtype } from "./rule.ts";

// Operators that work on each element by itself. Which dtypes an operator takes is left to the engine; that
// operands agree with each other is checked here, since a mismatch is how a wrong gradient rule first shows.

/** Numbers in, numbers out: all inputs broadcast and share one dtype (Add and its kin, since version 7). */
const arithmetic: InferRule = (at) => {
  const all = at.node.inputs.map((_, index) => index);
  return one(
    sameDtype(at, all),
    broadcast(
      at,
      all.map((index) => at.shape(index)),
    ),
  );
};

/** Operands must agree in dtype as for sums; only the answer's is bool. */
const comparison: InferRule = (at) => [{ ...arithmetic(at)[0]!, dtype: "bool" }];

export const Add = arithmetic;
export const Sub = arithmetic;
export const Mul = arithmetic;
export const Div = arithmetic;
export const Mod = arithmetic;
export const Min = arithmetic;
export const Max = arithmetic;
export const Sum = arithmetic;
export const Mean = arithmetic;
export const And = comparison;
export const Or = comparison;
export const Xor = comparison;
export const Equal = comparison;
export const Less = comparison;
export const LessOrEqual = comparison;
export const Greater = comparison;
export const GreaterOrEqual = comparison;

/** The exponent may have a dtype of its own; the result has the base's (Pow, since version 12). */
export function Pow(at: Site) {
  return one(at.dtype(0), broadcast(at, [at.shape(0), at.shape(1)]));
}

/** The slope broadcasts to the input, one way only; versions before 7 differ and are refused on reading. */
export function PRelu(at: Site) {
  demandFits(at, 1, at.shape(0));
  return one(sameDtype(at, [0, 1]), at.shape(0));
}

/** The choice broadcasts with both branches, which share a dtype (Where, since version 9). */
export function Where(at: Site) {
  if (at.dtype(0) !== "bool") throw at.fault("bad-input", "input 0", { expected: "bool", got: at.dtype(0) });
  return one(sameDtype(at, [1, 2]), broadcast(at, [at.shape(0), at.shape(1), at.shape(2)]));
}

/** The bounds are one value each, of the input's dtype (Clip, since version 11; attributes before). */
export function Clip(at: Site) {
  for (const index of [1, 2]) {
    if (!at.has(index)) continue;
    sameDtype(at, [0, index]);
    demandSingle(at, index);
  }
  return same(at);
}

// One input and its shape and dtype out; attributes matter to the values alone.
export const Abs = same;
export const Acos = same;
export const Acosh = same;
export const Asin = same;
export const Asinh = same;
export const Atan = same;
export const Atanh = same;
export const Cosh = same;
export const Sinh = same;
export const Ceil = same;
export const Cos = same;
export const Elu = same;
export const Erf = same;
export const Exp = same;
export const Floor = same;
export const Gelu = same;
export const HardSigmoid = same;
export const HardSwish = same;
export const Identity = same;
export const LeakyRelu = same;
export const Log = same;
export const Mish = same;
export const Neg = same;
export const Reciprocal = same;
export const Relu = same;
export const Round = same;
export const Selu = same;
export const Sigmoid = same;
export const Sign = same;
export const Sin = same;
export const Softplus = same;
export const Softsign = same;
export const Sqrt = same;
export const Celu = same;
export const Shrink = same;
export const Swish = same;
export const ThresholdedRelu = same;
export const Tan = same;
export const Tanh = same;

/** One bool per element. */
const test: InferRule = (at) => one("bool", at.shape(0));
export const IsInf = test;
export const IsNaN = test;
export const Not = test;

/** `to` is ONNX's number of the element type (onnx.proto, TensorProto.DataType), not our name. */
export function Cast(at: Site) {
  return one(dtypeOf(at.int("to"), "Cast"), at.shape(0));
}

/** Only the second input's dtype counts, so it need not be known before the run (since version 15). */
export function CastLike(at: Site) {
  return one(at.dtype(1), at.shape(0));
}

/** Where nothing is dropped the mask, where asked for, is all true (Dropout, since version 7). */
export function Dropout(at: Site) {
  if (drops(at))
    throw at.fault("unsupported", "training mode", {
      expected: "off or with ratio 0, known before the run",
      todo: "Export the model in evaluation mode",
    });
  const mask = at.opset < 10 ? at.dtype(0) : "bool";
  return [at.static(0), { dtype: mask, shape: at.shape(0) }] as const;
}

/** Whether it trains, or may, with a ratio (0.5 unless told) that drops something, or may. */
function drops(at: Site): boolean {
  if (at.opset < 12) return at.opset < 7 && at.int("is_test", 0) === 0 && at.float("ratio", 0.5) !== 0;
  const off = (index: number) => {
    const known = at.constant(index);
    return known !== undefined && numbers(known)[0] === 0;
  };
  return at.has(2) && !off(2) && !off(1);
}
