import { sizeOf } from "../../ir.ts";
import { choose, expandTo, truncate, truth, unbool } from "./broadcast.ts";
import type { Operator, OpSite } from "./op-site.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

type Unary = (tf: Tf, x: TfTensor) => TfTensor;
type Binary = (tf: Tf, a: TfTensor, b: TfTensor) => TfTensor;

const unary =
  (f: Unary): Operator =>
  (_, tf) =>
  (x) =>
    f(tf, x);

/**
 * For the kernels that broadcast slowly on wasm, 110 ns an element where an axis other than the first widens:
 * operands are widened first, for 1 ns.
 */
const widening =
  (f: Binary): Operator =>
  (site, tf) => {
    const shape = site.shapeOut();
    return (a, b) => {
      const left = a.size === 1 && b.size !== 1 ? a : expandTo(tf, a, shape);
      const right = b.size === 1 ? b : expandTo(tf, b, shape);
      return tf.reshape(f(tf, left, right), shape);
    };
  };

/** Comparisons: bool and int32 operands compare as int32 on every backend. */
const compare = (f: Binary): Operator => widening((tf, a, b) => f(tf, unbool(tf, a), unbool(tf, b)));

/** Min, Max and Sum take any number of inputs. */
const variadic =
  (two: Operator): Operator =>
  (site, tf) => {
    const pair = two(site, tf);
    return (...inputs) => inputs.reduce((sum, next) => pair(sum, next) as TfTensor);
  };

const binary =
  (f: Binary): Operator =>
  (_, tf) =>
  (a, b) =>
    f(tf, a, b);

export const Add = binary((tf, a, b) => tf.add(a, b));
export const Sub = binary((tf, a, b) => tf.sub(a, b));
export const Mul = binary((tf, a, b) => tf.mul(a, b));
export const Equal = compare((tf, a, b) => tf.equal(a, b));
export const Less = compare((tf, a, b) => tf.less(a, b));
export const LessOrEqual = compare((tf, a, b) => tf.lessEqual(a, b));
export const Greater = compare((tf, a, b) => tf.greater(a, b));
export const GreaterOrEqual = compare((tf, a, b) => tf.greaterEqual(a, b));
export const And = widening((tf, a, b) => tf.logicalAnd(a, b));
export const Or = widening((tf, a, b) => tf.logicalOr(a, b));
export const Xor = widening((tf, a, b) => tf.logicalXor(a, b));
export const Not = unary((tf, x) => tf.logicalNot(x));
export const Min = variadic(widening((tf, a, b) => orNaN(tf, [a, b], tf.minimum(a, b))));
export const Max = variadic(widening((tf, a, b) => orNaN(tf, [a, b], tf.maximum(a, b))));
export const Sum = variadic(Add);

/** wasm's minimum and maximum drop a NaN; training must not mistake a diverged value for a clipped one. */
function orNaN(tf: Tf, inputs: readonly [TfTensor, TfTensor], picked: TfTensor): TfTensor {
  if (picked.dtype !== "float32") return picked;
  const [a, b] = inputs;
  return tf.add(picked, nanOnly(tf, tf.add(tf.square(a), tf.square(b))));
}

/** 0 for every number that is not negative, infinity included; NaN for NaN. Cheaper than isNaN and where. */
function nanOnly(tf: Tf, x: TfTensor): TfTensor {
  return tf.div(0, tf.add(x, 1));
}

export const Mean: Operator = (site, tf) => {
  const sum = Sum(site, tf);
  return (...inputs) => tf.div(sum(...inputs) as TfTensor, inputs.length);
};

const quotient = binary((tf, a, b) => tf.div(a, b));

/**
 * Integers divide towards zero (tfjs divides towards minus infinity, on wasm as floats: a second division of
 * what the first left over makes it exact).
 */
export const Div: Operator = (site, tf) => {
  if (site.typeOut() === "float32") return quotient(site, tf);
  return (a, b) => {
    const about = tf.floorDiv(a, b);
    const floor = tf.add(about, tf.floorDiv(tf.sub(a, tf.mul(about, b)), b));
    const rest = tf.sub(a, tf.mul(floor, b));
    const up = tf.logicalAnd(tf.notEqual(rest, zero(tf)), tf.less(floor, zero(tf)));
    return tf.add(floor, tf.cast(up, "int32"));
  };
};

const zero = (tf: Tf): TfTensor => tf.scalar(0, "int32");

/** The result has the base's type. Powers that training often meets are products: pow costs 70 products. */
export const Pow: Operator = (site, tf) => {
  const given = site.constant(1);
  const exponent = given && sizeOf(given.shape) === 1 ? site.numbers(1)[0] : undefined;
  const keepsShape = given !== undefined && given.shape.length <= site.rank(0);
  const short = keepsShape && site.typeOut() === "float32" ? product(tf, exponent) : undefined;
  if (short) {
    site.skip(1);
    return (x) => short(x);
  }
  const type = site.typeOut();
  const power = widening((_, x, y) => tf.pow(x, y))(site, tf);
  return (x, y) => {
    if (x.dtype === y.dtype) return power(x, y);
    const wide = power(tf.cast(x, "float32"), tf.cast(y, "float32")) as TfTensor;
    return type === "float32" ? wide : tf.cast(whole(tf, wide), type);
  };
};

/** Truncated, unless so close to a whole number that the power was one. */
function whole(tf: Tf, x: TfTensor): TfTensor {
  const near = tf.round(x);
  const isNear = tf.lessEqual(tf.abs(tf.sub(x, near)), tf.mul(tf.abs(near), 1e-5));
  return choose(tf, isNear, [near, truncate(tf, x)]);
}

function product(tf: Tf, exponent: number | undefined): ((x: TfTensor) => TfTensor) | undefined {
  if (exponent === 1) return (x) => x;
  if (exponent === 2) return (x) => tf.square(x);
  if (exponent === 3) return (x) => tf.mul(tf.square(x), x);
  if (exponent === 0.5) return (x) => tf.sqrt(x);
  if (exponent === -1) return (x) => tf.div(1, x);
  return undefined;
}

/** fmod=0: the sign of the divisor; fmod=1: the sign of the dividend, as in C. */
export const Mod: Operator = (site, tf) => {
  if (site.int("fmod", 0) === 0) {
    if (site.typeOut() === "float32") return (a, b) => tf.mod(a, b);
    // By zero it is undefined, and wasm would stop in the middle of it.
    return (a, b) => tf.mod(a, tf.add(b, tf.cast(tf.equal(b, zero(tf)), "int32")));
  }
  if (site.typeOut() === "int32") {
    const divide = Div(site, tf);
    return (a, b) => tf.sub(a, tf.mul(divide(a, b) as TfTensor, b));
  }
  return (a, b) => tf.sub(a, tf.mul(truncate(tf, tf.div(a, b)), b));
};

/** wasm negates integers as floats; 0 - x is exact. */
export const Neg = unary((tf, x) => (x.dtype === "int32" ? tf.sub(zero(tf), x) : tf.neg(x)));
export const Abs = unary((tf, x) => tf.abs(x));
export const Sqrt = unary((tf, x) => tf.sqrt(x));
export const Exp = unary((tf, x) => tf.exp(x));
export const Log = unary((tf, x) => tf.log(x));
export const Erf = unary((tf, x) => tf.erf(x));
export const Tanh = unary((tf, x) => tf.tanh(x));
export const Sigmoid = unary((tf, x) => tf.sigmoid(x));
export const Relu = unary((tf, x) => tf.relu(x));
export const Softplus = unary((tf, x) => tf.softplus(x));
export const Reciprocal = unary((tf, x) => tf.div(1, x));
export const Sin = unary((tf, x) => tf.sin(x));
export const Cos = unary((tf, x) => tf.cos(x));
export const Acos = unary((tf, x) => tf.acos(x));
export const Acosh = unary((tf, x) => tf.acosh(x));
export const Asin = unary((tf, x) => tf.asin(x));
export const Asinh = unary((tf, x) => tf.asinh(x));
export const Atan = unary((tf, x) => tf.atan(x));
export const Atanh = unary((tf, x) => tf.atanh(x));
export const Cosh = unary((tf, x) => tf.cosh(x));
export const Sinh = unary((tf, x) => tf.sinh(x));
/** wasm's sign takes what is below 1e-6 for zero; scaled up, only what is below 1e-36. */
export const Sign = unary((tf, x) => tf.sign(x.dtype === "float32" ? tf.mul(x, 2 ** 100) : x));
export const Floor = unary((tf, x) => tf.floor(x));
export const Ceil = unary((tf, x) => tf.ceil(x));
export const Round = unary((tf, x) => tf.round(x));
export const IsNaN = unary((tf, x) => tf.isNaN(x));
export const Identity = unary((_, x) => x);

export const Tan = unary((tf, x) => tf.tan(x));
export const Softsign = unary((tf, x) => tf.div(x, tf.add(tf.abs(x), 1)));
export const Mish = unary((tf, x) => tf.mul(x, tf.tanh(tf.softplus(x))));

export const IsInf: Operator = (site, tf) => {
  const above = site.int("detect_positive", 1) === 1;
  const below = site.int("detect_negative", 1) === 1;
  return (x) => {
    if (above && below) return tf.isInf(x);
    return tf.equal(x, above ? Infinity : below ? -Infinity : Number.NaN);
  };
};

export const LeakyRelu: Operator = (site, tf) => {
  const alpha = site.float("alpha", 0.01);
  return (x) => tf.leakyRelu(x, alpha);
};

/** The slope broadcasts to x. */
export const PRelu: Operator = (_, tf) => (x, slope) =>
  tf.add(tf.relu(x), tf.mul(tf.neg(tf.relu(tf.neg(x))), slope));

/** max(0, min(1, alpha·x + beta)). */
export const HardSigmoid: Operator = (site, tf) => {
  const alpha = site.float("alpha", 0.2);
  const beta = site.float("beta", 0.5);
  return (x) => {
    const line = tf.add(tf.mul(x, alpha), beta);
    return tf.add(tf.clipByValue(line, 0, 1), nanOnly(tf, tf.square(line)));
  };
};

export const HardSwish = unary((tf, x) => tf.mul(x, tf.clipByValue(tf.add(tf.div(x, 6), 0.5), 0, 1)));

export const Elu: Operator = (site, tf) => {
  const alpha = site.float("alpha", 1);
  if (alpha === 1) return (x) => tf.elu(x);
  return (x) => tf.add(tf.relu(x), tf.mul(alpha, tf.sub(tf.exp(tf.minimum(x, 0)), 1)));
};

/** gamma · (x, or alpha·(eˣ - 1) below 0); the defaults are Klambauer et al. 2017's fixed point. */
export const Selu: Operator = (site, tf) => {
  const alpha = site.float("alpha", 1.6732631921768188);
  const gamma = site.float("gamma", 1.0507010221481323);
  return (x) => tf.mul(gamma, tf.add(tf.relu(x), tf.mul(alpha, tf.sub(tf.exp(tf.minimum(x, 0)), 1))));
};

/** x, or alpha·(e^(x/alpha) - 1) below 0. */
export const Celu: Operator = (site, tf) => {
  const alpha = site.float("alpha", 1);
  return (x) => tf.add(tf.relu(x), tf.mul(alpha, tf.sub(tf.exp(tf.div(tf.minimum(x, 0), alpha)), 1)));
};

/** x·σ(alpha·x). */
export const Swish: Operator = (site, tf) => {
  const alpha = site.float("alpha", 1);
  return (x) => tf.mul(x, tf.sigmoid(tf.mul(x, alpha)));
};

export const ThresholdedRelu: Operator = (site, tf) => {
  const alpha = site.float("alpha", 1);
  return (x) => tf.mul(x, tf.cast(tf.greater(x, alpha), "float32"));
};

/** x·Φ(x), exactly by erf or by tanh's approximation (Hendrycks & Gimpel 2016, section 2). */
export const Gelu: Operator = (site, tf) => {
  const approximate = site.string("approximate", "none");
  if (approximate === "none")
    return (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
  if (approximate !== "tanh")
    throw site.fault("unsupported", "attribute approximate", { expected: "none or tanh", got: approximate });
  const slope = Math.sqrt(2 / Math.PI);
  return (x) => {
    const inner = tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)), slope);
    return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
  };
};

/** float32's largest number, the bound where none is given: infinity is clipped to it. */
const LARGEST = 2 ** 128 - 2 ** 104;

/** Bounds are attributes before operator set 11, optional inputs after. NaN stays NaN, as in onnxruntime. */
export const Clip: Operator = (site, tf) => {
  const low = bound(site, { index: 1, name: "min", absent: -LARGEST });
  const high = bound(site, { index: 2, name: "max", absent: LARGEST });
  const isFloat = site.typeOut() === "float32";
  // With low above high ONNX gives high and tfjs refuses.
  const plain = isFloat && low !== undefined && high !== undefined && low <= high;
  if (!plain) return clipByTensors(site, tf);
  site.skip(1, 2);
  return (x) => tf.add(tf.clipByValue(x, low, high), nanOnly(tf, tf.square(x)));
};

function clipByTensors(site: OpSite, tf: Tf) {
  const isFloat = site.typeOut() === "float32";
  // A bound may be a vector of one; it must not give the result an axis.
  const one = (bound: TfTensor) => tf.reshape(bound, []);
  return (x: TfTensor, low?: TfTensor, high?: TfTensor): TfTensor => {
    const raised = low ? tf.maximum(x, one(low)) : x;
    const clipped = high ? tf.minimum(raised, one(high)) : raised;
    return isFloat ? tf.add(clipped, nanOnly(tf, tf.square(x))) : clipped;
  };
}

function bound(site: OpSite, at: { index: number; name: string; absent: number }): number | undefined {
  if (site.has(at.index)) return site.constant(at.index) ? site.numbers(at.index)[0] : undefined;
  return site.float(at.name, at.absent);
}

/** The three inputs broadcast together; branches are widened, since wasm's select wants equal shapes. */
export const Where: Operator = (site, tf) => {
  const shape = site.shapeOut();
  const wide = (x: TfTensor) => expandTo(tf, x, shape);
  return (condition, a, b) => choose(tf, wide(condition), [wide(a), wide(b)]);
};

/** Number to bool is "not zero"; float to integer truncates; 8-bit types wrap as C's do. */
export const Cast: Operator = (site, tf) => {
  const to = site.result().dtype;
  const type = site.typeOut();
  if (type === "bool") return (x) => truth(tf, x);
  if (to === "uint8") return (x) => tf.mod(tf.cast(x, "int32"), tf.scalar(256, "int32"));
  if (to === "int8") {
    const scalar = (value: number) => tf.scalar(value, "int32");
    return (x) => tf.sub(tf.mod(tf.add(tf.cast(x, "int32"), scalar(128)), scalar(256)), scalar(128));
  }
  return (x) => (x.dtype === type ? x : tf.cast(x, type));
};

/** Cast to the type of the second input, which tracing has read. */
export const CastLike: Operator = (site, tf) => {
  site.skip(1);
  return Cast(site, tf);
};
