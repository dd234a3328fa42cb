import type { DType, Static } from "../ir.ts";
import type { Site } from "../site.ts";
import { reshaped } from "../tensor.ts";
import {
  type EvaluateRule,
  elements,
  filled,
  greater,
  lesser,
  only,
  stretch,
  stretched,
  strided,
} from "./rule.ts";

// The slow twin of element operators: doubles until stored, so that each result is the correctly rounded one
// up to the double's own error. Engines round after every step and may differ by a few last places.

type Op<T> = (a: T, b: T) => T;

/**
 * Folds all inputs pairwise under broadcasting; int64 in bigints, everything else in doubles. Exporters
 * compute shapes with INT64_MAX and −1 among them, and 2^63 − 1 is no double: through numbers a Slice would
 * end elsewhere. Bigints wrap to 64 bits when stored, as C's overflow does in practice.
 */
function arithmetic(onNumbers: Op<number>, onBigints: Op<bigint>): EvaluateRule {
  return (at, out) => {
    const { dtype, shape } = only(out);
    let sum = strided(at.need(0), shape, { strides: stretch(at.shape(0), shape) });
    for (let index = 1; index < at.inputCount; index++) {
      const [a, b] = [elements(sum), elements(at.need(index))];
      const from = stretched(at.shape(index), shape);
      sum =
        a instanceof BigInt64Array && b instanceof BigInt64Array
          ? filled({ dtype, shape }, (i) => onBigints(a[i]!, b[from[i]!]!))
          : filled({ dtype, shape }, (i) => onNumbers(a[i] as number, b[from[i]!] as number));
    }
    return [sum];
  };
}

/**
 * JavaScript orders bigints and numbers alike, so one function compares both. With NaN every comparison is
 * false, NaN = NaN too: IEEE 754, which ONNX leaves unsaid.
 */
function comparison(holds: (a: number | bigint, b: number | bigint) => boolean): EvaluateRule {
  return (at, out) => {
    const [a, b] = [elements(at.need(0)), elements(at.need(1))];
    const { shape } = only(out);
    const [fromA, fromB] = [stretched(at.shape(0), shape), stretched(at.shape(1), shape)];
    return [filled(only(out), (i) => (holds(a[fromA[i]!]!, b[fromB[i]!]!) ? 1 : 0))];
  };
}

export const Add = arithmetic(
  (a, b) => a + b,
  (a, b) => a + b,
);
export const Sub = arithmetic(
  (a, b) => a - b,
  (a, b) => a - b,
);
export const Mul = arithmetic(
  (a, b) => a * b,
  (a, b) => a * b,
);
// Math.min and Math.max hand NaN on, as onnxruntime does: a value that diverged is not clipped away.
export const Min = arithmetic((a, b) => Math.min(a, b), lesser);
export const Max = arithmetic((a, b) => Math.max(a, b), greater);
export const Sum = Add;

/** Any number of inputs, which broadcast together (Sum, Mean, Min, Max: since version 8). */
export const Mean: EvaluateRule = (at, out) => {
  const sum = elements(Sum(at, out)[0]!);
  return [filled(only(out), (i) => Number(sum[i]!) / at.inputCount)];
};

/**
 * Integer division truncates toward zero, as C's does (Div, since version 14). By zero it is undefined: where
 * engines crash or answer what they like, a folded constant must not settle on one answer, so it is refused.
 */
export const Div: EvaluateRule = (at, out) => {
  const { dtype } = only(out);
  const whole = isWhole(dtype);
  if (whole) refuseZero(at);
  const divide = arithmetic(
    (a, b) => (whole ? Math.trunc(a / b) : a / b),
    (a, b) => a / b,
  );
  return divide(at, out);
};

const isWhole = (dtype: DType) => dtype !== "float32" && dtype !== "float64" && dtype !== "float16";

function refuseZero(at: Site): void {
  if (Array.from(elements(at.need(1))).some((value) => Number(value) === 0))
    throw at.fault("bad-input", "input 1", { expected: "no zero in an integer divisor" });
}

/** `fmod` 1 takes the sign of the dividend as C does, 0 that of the divisor as Python does. */
export const Mod: EvaluateRule = (at, out) => {
  if (isWhole(only(out).dtype)) refuseZero(at);
  const like = at.int("fmod", 0) !== 0;
  const modulo = arithmetic(
    (a, b) => (like ? a % b : a - b * Math.floor(a / b)),
    (a, b) => (like || a % b === 0n || a < 0n === b < 0n ? a % b : (a % b) + b),
  );
  return modulo(at, out);
};

/** The result has the base's dtype, whatever the exponent's (Pow, since version 15). */
export const Pow: EvaluateRule = (at, out) => {
  const [a, b] = [elements(at.need(0)), elements(at.need(1))];
  const { shape } = only(out);
  const [fromA, fromB] = [stretched(at.shape(0), shape), stretched(at.shape(1), shape)];
  return [filled(only(out), (i) => power(a[fromA[i]!]!, b[fromB[i]!]!))];
};

function power(base: number | bigint, exponent: number | bigint): number | bigint {
  if (typeof base !== "bigint" || typeof exponent !== "bigint" || exponent < 0n)
    return Number(base) ** Number(exponent);
  // Square and multiply modulo 2^64: a file's exponent must not make us hold a number of its length.
  let [square, result] = [base, 1n];
  for (let left = exponent; left > 0n; left >>= 1n) {
    if (left & 1n) result = BigInt.asIntN(64, result * square);
    square = BigInt.asIntN(64, square * square);
  }
  return result;
}

export const Equal: EvaluateRule = (at, out) => {
  if (at.dtype(0) !== "string") return comparison((a, b) => a === b)(at, out);
  const { shape } = only(out);
  const [a, b] = [0, 1].map((i) => strided(at.need(i), shape, { strides: stretch(at.shape(i), shape) }).data);
  return [filled(only(out), (i) => (a![i] === b![i] ? 1 : 0))];
};
export const Less = comparison((a, b) => a < b);
export const LessOrEqual = comparison((a, b) => a <= b);
export const Greater = comparison((a, b) => a > b);
export const GreaterOrEqual = comparison((a, b) => a >= b);
// bool is stored as 0 or 1. These take bool alone, so both sides are numbers here.
export const And = comparison((a, b) => a !== 0 && b !== 0);
export const Or = comparison((a, b) => a !== 0 || b !== 0);
export const Xor = comparison((a, b) => (a !== 0) !== (b !== 0));

/** Picks and computes nothing, so what the branch not taken holds (inf, NaN) never shows. */
export function Where(at: Site, out: readonly Static[]) {
  const { shape } = only(out);
  const choice = strided(at.need(0), shape, { strides: stretch(at.shape(0), shape) }).data;
  const [yes, no] = [elements(at.need(1)), elements(at.need(2))];
  const [fromYes, fromNo] = [stretched(at.shape(1), shape), stretched(at.shape(2), shape)];
  return [filled(only(out), (i) => (choice[i] ? yes[fromYes[i]!]! : no[fromNo[i]!]!))];
}

/**
 * One function on doubles per element; rounding to the dtype comes last. Attributes are read again for every
 * element: slow, and each operator stays the one line that the standard gives it.
 */
function unary(f: (x: number, at: Site) => number): EvaluateRule {
  return (at, out) => {
    const x = elements(at.need(0));
    return [filled(only(out), (i) => f(Number(x[i]!), at))];
  };
}

/** For int64 the same in bigints: shapes pass through these (Relu of integers: since version 14). */
function exact(f: (x: number) => number, onBigint: (x: bigint) => bigint): EvaluateRule {
  return (at, out) => {
    const x = elements(at.need(0));
    return [
      filled(only(out), (i) => (typeof x[i] === "bigint" ? onBigint(x[i] as bigint) : f(x[i] as number))),
    ];
  };
}

// NaN stays NaN in Relu as in onnxruntime; Math.max would keep it too, but not for bigints.
export const Abs = exact(Math.abs, (x) => (x < 0n ? -x : x));
export const Neg = exact(
  (x) => -x,
  (x) => -x,
);
export const Relu = exact(
  (x) => (x > 0 || Number.isNaN(x) ? x : 0),
  (x) => (x > 0n ? x : 0n),
);
export const Sign = exact(Math.sign, (x) => (x > 0n ? 1n : x < 0n ? -1n : 0n));
// expm1 in this family: e^x − 1 written out would lose every digit where x is small.
export const Celu = unary((x, at) => {
  const alpha = at.float("alpha", 1);
  return Math.max(0, x) + Math.min(0, alpha * Math.expm1(x / alpha));
});
export const Ceil = unary(Math.ceil);
export const Cos = unary(Math.cos);
export const Acos = unary(Math.acos);
export const Acosh = unary(Math.acosh);
export const Asin = unary(Math.asin);
export const Asinh = unary(Math.asinh);
export const Atan = unary(Math.atan);
export const Atanh = unary(Math.atanh);
export const Cosh = unary(Math.cosh);
export const Sinh = unary(Math.sinh);
export const Elu = unary((x, at) => (x < 0 ? at.float("alpha", 1) * Math.expm1(x) : x));
export const Erf = unary(erf);
export const Exp = unary(Math.exp);
export const Floor = unary(Math.floor);
// torch's hardsigmoid is alpha = 1/6, not this default; HardSwish is fixed at 1/6 and 1/2 (since version 14).
export const HardSigmoid = unary((x, at) => clamp(at.float("alpha", 0.2) * x + at.float("beta", 0.5), 0, 1));
export const HardSwish = unary((x) => x * clamp(x / 6 + 0.5, 0, 1));
export const LeakyRelu = unary((x, at) => (x < 0 ? at.float("alpha", 0.01) * x : x));
export const Log = unary(Math.log);
export const Mish = unary((x) => x * Math.tanh(softplus(x)));
export const Reciprocal = unary((x) => 1 / x);
// The defaults are the standard's decimals of Klambauer et al. 2017's fixed point, as float32 holds them.
export const Selu = unary(
  (x, at) => at.float("gamma", 1.05070102) * (x > 0 ? x : at.float("alpha", 1.67326319) * Math.expm1(x)),
);
/** Zero between −lambd and lambd; outside, moved toward zero by bias (Shrink, since version 9). */
export const Shrink = unary((x, at) => {
  const [bias, limit] = [at.float("bias", 0), at.float("lambd", 0.5)];
  return x < -limit ? x + bias : x > limit ? x - bias : 0;
});
// Where e^−x overflows, 1/(1 + ∞) is 0, which is the limit; no case distinction is needed in doubles.
export const Sigmoid = unary((x) => 1 / (1 + Math.exp(-x)));
export const Sin = unary(Math.sin);
export const Softplus = unary(softplus);
export const Softsign = unary((x) => x / (1 + Math.abs(x)));
export const Sqrt = unary(Math.sqrt);
export const Swish = unary((x, at) => x / (1 + Math.exp(-at.float("alpha", 1) * x)));
export const Tan = unary(Math.tan);
export const Tanh = unary(Math.tanh);
// Strictly above the threshold (since version 10): at alpha itself the result is 0.
export const ThresholdedRelu = unary((x, at) => (x > at.float("alpha", 1) ? x : 0));
export const Not = unary((x) => (x === 0 ? 1 : 0));
export const IsNaN = unary((x) => (Number.isNaN(x) ? 1 : 0));
// Either sign may be asked for alone (since version 10).
export const IsInf = unary((x, at) => {
  const wanted = x > 0 ? at.int("detect_positive", 1) : at.int("detect_negative", 1);
  return wanted && Math.abs(x) === Number.POSITIVE_INFINITY ? 1 : 0;
});

/** Ties go to even, as IEEE 754 rounds (Round, since version 11); Math.round would send them up. */
export const Round = unary((x) => {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2 === 0 ? 0 : 1) : Math.round(x);
});

/**
 * The exact form by the error function, or its tanh approximation (Gelu, since version 20; Hendrycks and
 * Gimpel 2016, section 2). onnxruntime's own Gelu (com.microsoft) knows the exact form alone.
 */
export const Gelu = unary((x, at) => {
  if (at.node.domain === "" && at.string("approximate", "none") === "tanh")
    return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  return 0.5 * x * (1 + erf(x / Math.SQRT2));
});

/** x·σ(alpha·x) (com.microsoft), which onnxruntime's optimiser makes of CLIP's activation. */
export const QuickGelu = unary((x, at) => x / (1 + Math.exp(-at.float("alpha", 1.702) * x)));

/** The slope broadcasts one way, to x (PRelu, since version 7): a slope per channel is [C, 1, 1]. */
export const PRelu: EvaluateRule = (at, out) => {
  const [x, slope] = [elements(at.need(0)), elements(at.need(1))];
  const from = stretched(at.shape(1), at.shape(0));
  return [filled(only(out), (i) => (x[i]! < 0 ? Number(x[i]!) * Number(slope[from[i]!]!) : x[i]!))];
};

/** Bounds are attributes before version 11 and inputs since; either may be missing. */
export const Clip: EvaluateRule = (at, out) => {
  const bound = (index: number, name: string, none: number) =>
    at.has(index) ? elements(at.need(index))[0]! : at.node.attributes.has(name) ? at.float(name) : none;
  const low = bound(1, "min", Number.NEGATIVE_INFINITY);
  const high = bound(2, "max", Number.POSITIVE_INFINITY);
  const x = elements(at.need(0));
  // The upper bound wins where the two cross (Clip, since version 13).
  const limit = (value: number | bigint) => {
    if (value > high) return high;
    // Where the bounds cross, what was raised to the lower one is still above the upper one.
    return value < low ? lesser(low, high) : value;
  };
  return [filled(only(out), (i) => limit(x[i]!))];
};

/** The very same tensor: folding shares storage, so an alias of a weight costs nothing. */
export function Identity(at: Site) {
  return [at.need(0)];
}

/** Inference: nothing is dropped; infer has refused training mode. */
export function Dropout(at: Site, out: readonly Static[]) {
  return [at.need(0), filled(out[1]!, () => 1)];
}

/**
 * To bool: all but zero is true, NaN too. Float to integer truncates; out of range the standard leaves
 * undefined, here it is what the array's type makes of it (Cast, since version 13). Text would need the
 * standard's own syntax of numbers.
 */
export const Cast: EvaluateRule = (at, out) => {
  const { dtype } = only(out);
  const tensor = at.need(0);
  if (tensor.dtype === dtype) return [tensor];
  if (tensor.dtype === "string" || dtype === "string")
    throw at.fault("unsupported", "cast of text", {
      expected: "numbers",
      got: `${tensor.dtype} to ${dtype}`,
    });
  const x = elements(tensor);
  return [filled(only(out), (i) => (dtype === "bool" ? (Number(x[i]!) === 0 ? 0 : 1) : x[i]!))];
};

export const CastLike = Cast;

/** The same elements, whatever the shape. */
export const view: EvaluateRule = (at, out) => [reshaped(at.need(0), only(out).shape)];

function clamp(x: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, x));
}

/** log(1 + eˣ) without overflow for large x. */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/**
 * The error function: its Maclaurin series near zero and the continued fraction of erfc beyond
 * (Abramowitz and Stegun, 7.1.6 and 7.1.14), good to about 1e-15.
 */
export function erf(x: number): number {
  const size = Math.abs(x);
  if (Number.isNaN(x)) return x;
  if (size > 6) return Math.sign(x);
  if (size < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let fraction = size;
  for (let n = 60; n > 0; n--) fraction = size + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-size * size) / Math.sqrt(Math.PI) / fraction);
}
