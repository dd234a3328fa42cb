import type { Ops } from "../ops.ts";
import { numbers } from "../tensor.ts";
import type { Adjoint, GradientRule } from "./rule.ts";

/** A rule for y = f(x), from a function that emits dy · f′(x). */
function unary(derive: (site: Adjoint, ops: Ops, x: string) => string): GradientRule {
  return (site, ops) => [() => derive(site, ops, site.input(0))];
}

/** A rule for y = f(a, b) with broadcasting: each gradient is summed back to its input's shape. */
function binary(
  derive: (site: Adjoint, ops: Ops, ab: readonly [string, string]) => readonly (() => string)[],
): GradientRule {
  return (site, ops) => {
    const ab = [site.input(0), site.input(1)] as const;
    return derive(site, ops, ab).map((emit, at) => () => ops.unbroadcast(emit(), ops.shape(ab[at]!)));
  };
}

export const Add: GradientRule = binary(({ dy }) => [() => dy, () => dy]);
export const Sub: GradientRule = binary(({ dy }, ops) => [() => dy, () => ops.op("Neg", [dy])]);
export const Mul: GradientRule = binary(({ dy }, ops, [a, b]) => [
  () => ops.mul(dy, b),
  () => ops.mul(dy, a),
]);
export const Div: GradientRule = binary(({ dy, y }, ops, [, b]) => [
  () => ops.div(dy, b),
  () => ops.op("Neg", [ops.div(ops.mul(dy, y), b)]),
]);

export const Pow: GradientRule = binary((site, ops, [x, p]) => [
  () => ops.mul(site.dy, powerSlope(site, ops, [x, p])),
  // d(x^p)/dp = y·ln x where x > 0, and 0 at x = 0, as torch has it. Below there is no slope: torch says NaN,
  // we say 0, so that one such element does not take the whole step with it.
  () =>
    ops.gate(ops.op("Greater", [x, ops.number(0, x)]), ops.mul(site.dy, ops.mul(site.y, ops.op("Log", [x])))),
]);

/** Remainder of a division that cuts (fmod): y = a − b·trunc(a/b), and the quotient is (a − y)/b. */
export const Mod: GradientRule = binary(({ dy, y }, ops, [a, b]) => [
  () => dy,
  () => ops.op("Neg", [ops.mul(dy, ops.op("Round", [ops.div(ops.sub(a, y), b)]))]),
]);

/** p·x^(p−1), without Pow for the powers that occur: 2 (norms), 3 (tanh-gelu), 0.5 and −1. */
function powerSlope({ y }: Adjoint, ops: Ops, [x, given]: readonly [string, string]): string {
  const fixed = ops.build.constantOf(given);
  const power = fixed && fixed.data.length === 1 ? numbers(fixed)[0] : undefined;
  if (power === 0) return ops.number(0, x);
  if (power === 1) return ops.number(1, x);
  if (power === 2) return ops.scale(x, 2);
  if (power === 3) return ops.scale(ops.mul(x, x), 3);
  if (power === 0.5) return ops.div(ops.number(0.5, x), y);
  if (power !== undefined) return ops.scale(ops.op("Pow", [x, ops.number(power - 1, x)]), power);
  const p = ops.cast(given, ops.build.static(x).dtype);
  const slope = ops.mul(p, ops.op("Pow", [x, ops.sub(p, ops.number(1, p))]));
  // x^0 is flat, also at 0, where 0·0^−1 would be NaN.
  return ops.where(ops.op("Equal", [p, ops.number(0, p)]), ops.number(0, p), slope);
}

export const Neg: GradientRule = unary(({ dy }, ops) => ops.op("Neg", [dy]));
export const Abs: GradientRule = unary(({ dy }, ops, x) => ops.mul(dy, ops.op("Sign", [x])));
export const Sqrt: GradientRule = unary(({ dy, y }, ops) => ops.div(ops.scale(dy, 0.5), y));
export const Exp: GradientRule = unary(({ dy, y }, ops) => ops.mul(dy, y));
export const Log: GradientRule = unary(({ dy }, ops, x) => ops.div(dy, x));
export const Sin: GradientRule = unary(({ dy }, ops, x) => ops.mul(dy, ops.op("Cos", [x])));
export const Cos: GradientRule = unary(({ dy }, ops, x) => ops.op("Neg", [ops.mul(dy, ops.op("Sin", [x]))]));
export const Sinh: GradientRule = unary(({ dy }, ops, x) => ops.mul(dy, ops.op("Cosh", [x])));
export const Cosh: GradientRule = unary(({ dy }, ops, x) => ops.mul(dy, ops.op("Sinh", [x])));
export const Atan: GradientRule = unary(({ dy }, ops, x) =>
  ops.div(dy, ops.add(ops.mul(x, x), ops.number(1, x))),
);
export const Atanh: GradientRule = unary(({ dy }, ops, x) =>
  ops.div(dy, ops.sub(ops.number(1, x), ops.mul(x, x))),
);
export const Asin: GradientRule = unary(({ dy }, ops, x) => ops.div(dy, leg(ops, x)));
export const Acos: GradientRule = unary(({ dy }, ops, x) => ops.op("Neg", [ops.div(dy, leg(ops, x))]));
export const Asinh: GradientRule = unary(({ dy }, ops, x) =>
  ops.div(dy, ops.op("Sqrt", [ops.add(ops.mul(x, x), ops.number(1, x))])),
);
export const Acosh: GradientRule = unary(({ dy }, ops, x) =>
  ops.div(dy, ops.op("Sqrt", [ops.sub(ops.mul(x, x), ops.number(1, x))])),
);

/** √(1 − x²). */
function leg(ops: Ops, x: string): string {
  return ops.op("Sqrt", [ops.sub(ops.number(1, x), ops.mul(x, x))]);
}

export const Reciprocal: GradientRule = unary(({ dy, y }, ops) =>
  ops.op("Neg", [ops.mul(dy, ops.mul(y, y))]),
);
export const Tanh: GradientRule = unary(({ dy, y }, ops) =>
  ops.mul(dy, ops.sub(ops.number(1, y), ops.mul(y, y))),
);
export const Sigmoid: GradientRule = unary(({ dy, y }, ops) =>
  ops.mul(dy, ops.mul(y, ops.sub(ops.number(1, y), y))),
);
export const Softplus: GradientRule = unary(({ dy }, ops, x) => ops.mul(dy, ops.op("Sigmoid", [x])));

/** erf′(x) = 2/√π · e^(−x²). */
export const Erf: GradientRule = unary(({ dy }, ops, x) => {
  const bell = ops.op("Exp", [ops.op("Neg", [ops.mul(x, x)])]);
  return ops.mul(dy, ops.scale(bell, 2 / Math.sqrt(Math.PI)));
});

export const Relu: GradientRule = unary(({ dy, y }, ops) =>
  ops.gate(ops.op("Greater", [y, ops.number(0, y)]), dy),
);

export const LeakyRelu: GradientRule = unary((site, ops, x) => {
  const positive = ops.op("Greater", [x, ops.number(0, x)]);
  return ops.where(positive, site.dy, ops.scale(site.dy, site.float("alpha", 0.01)));
});

export const Elu: GradientRule = unary((site, ops, x) => {
  const positive = ops.op("Greater", [x, ops.number(0, x)]);
  // Below 0, y = α(eˣ − 1), so the slope is y + α: no second exponential that could overflow.
  const slope = ops.add(site.y, ops.number(site.float("alpha", 1), x));
  return ops.where(positive, site.dy, ops.mul(site.dy, slope));
});

export const HardSigmoid: GradientRule = unary((site, ops) => {
  const open = strictlyBetween(ops, site.y, [0, 1]);
  return ops.gate(open, ops.scale(site.dy, site.float("alpha", 0.2)));
});

/** x·min(1, max(0, x/6 + 1/2)) (ONNX HardSwish-14): slope 0 below −3, 1 above 3, x/3 + 1/2 between. */
export const HardSwish: GradientRule = unary(({ dy }, ops, x) => {
  const middle = ops.mul(dy, ops.add(ops.scale(x, 1 / 3), ops.number(0.5, x)));
  const above = ops.where(ops.op("Greater", [x, ops.number(3, x)]), dy, middle);
  return ops.gate(ops.op("Greater", [x, ops.number(-3, x)]), above);
});

function strictlyBetween(ops: Ops, y: string, [low, high]: readonly [number, number]): string {
  const above = ops.op("Greater", [y, ops.number(low, y)]);
  return ops.op("And", [above, ops.op("Less", [y, ops.number(high, y)])]);
}

/** x / (1 + |x|). */
export const Softsign: GradientRule = unary(({ dy }, ops, x) => {
  const reach = ops.add(ops.op("Abs", [x]), ops.number(1, x));
  return ops.div(dy, ops.mul(reach, reach));
});

/** x·t with t = tanh(softplus x): t + x·(1 − t²)·σ(x). */
export const Mish: GradientRule = unary(({ dy }, ops, x) => {
  const t = ops.op("Tanh", [ops.op("Softplus", [x])]);
  const bend = ops.mul(ops.sub(ops.number(1, x), ops.mul(t, t)), ops.op("Sigmoid", [x]));
  return ops.mul(dy, ops.add(t, ops.mul(x, bend)));
});

/** Gelu-20: x·Φ(x), or its tanh approximation (Hendrycks & Gimpel 2016, section 2). */
export const Gelu: GradientRule = unary((site, ops, x) => {
  const slope = site.string("approximate", "none") === "tanh" ? tanhGeluSlope(ops, x) : geluSlope(ops, x);
  return ops.mul(site.dy, slope);
});

/** Φ(x) + x·φ(x). */
function geluSlope(ops: Ops, x: string): string {
  const erf = ops.op("Erf", [ops.scale(x, Math.SQRT1_2)]);
  const phi = ops.scale(ops.add(erf, ops.number(1, x)), 0.5);
  const bell = ops.op("Exp", [ops.scale(ops.mul(x, x), -0.5)]);
  return ops.add(phi, ops.mul(x, ops.scale(bell, 1 / Math.sqrt(2 * Math.PI))));
}

/** With u = k(x + 0.044715x³) and t = tanh u: (1 + t)/2 + x(1 − t²)u′/2. */
function tanhGeluSlope(ops: Ops, x: string): string {
  const k = Math.sqrt(2 / Math.PI);
  const one = ops.number(1, x);
  const square = ops.mul(x, x);
  const u = ops.scale(ops.mul(x, ops.add(ops.scale(square, 0.044715), one)), k);
  const t = ops.op("Tanh", [u]);
  const du = ops.scale(ops.add(ops.scale(square, 3 * 0.044715), one), k);
  const bend = ops.mul(ops.mul(x, ops.sub(one, ops.mul(t, t))), du);
  return ops.scale(ops.add(ops.add(t, one), bend), 0.5);
}

/**
 * y = min(max(x, low), high). At a bound x has slope 1, as torch has it; a bound that is computed gets what
 * arrives wherever it cut.
 */
export const Clip: GradientRule = (site, ops) => {
  const [x, dy, y] = [site.input(0), site.dy, site.y];
  const at = (mask: string, index: number) => ops.unbroadcast(ops.gate(mask, dy), site.shape(index));
  return [
    () => ops.gate(ops.op("Equal", [x, y]), dy),
    () => {
      const low = site.input(1);
      return at(ops.op("And", [ops.op("Less", [x, low]), ops.op("Equal", [y, low])]), 1);
    },
    () => {
      const raised = site.has(1) ? ops.op("Max", [x, site.input(1)]) : x;
      return at(ops.op("Greater", [raised, site.input(2)]), 2);
    },
  ];
};

/** Min and Max take any number of inputs; where several are the extreme, they share dy evenly (as torch). */
function extreme({ node, dy, y }: Adjoint, ops: Ops): ReturnType<GradientRule> {
  if (node.inputs.length === 1) return [() => dy];
  const masks = () => node.inputs.map((x) => ops.op("Equal", [x, y]));
  const ones = (mask: string) => ops.where(mask, ops.number(1, y), ops.number(0, y));
  return node.inputs.map((x, at) => () => {
    const all = masks();
    const count = all.map(ones).reduce(ops.add);
    return ops.unbroadcast(ops.gate(all[at]!, ops.div(dy, count)), ops.shape(x));
  });
}
export const Min: GradientRule = extreme;
export const Max: GradientRule = extreme;

/** y = Σ inputs. */
export const Sum: GradientRule = ({ node, dy }, ops) =>
  node.inputs.map((x) => () => ops.unbroadcast(dy, ops.shape(x)));

/** Picks instead of multiplying, so what the other branch holds (inf, NaN) never reaches the gradient. */
export const Where: GradientRule = (site, ops) => {
  const condition = site.input(0);
  const zero = () => ops.number(0, site.dy);
  return [
    undefined,
    () => ops.unbroadcast(ops.where(condition, site.dy, zero()), ops.shape(site.input(1))),
    () => ops.unbroadcast(ops.where(condition, zero(), site.dy), ops.shape(site.input(2))),
  ];
};

/** PRelu: the slope input broadcasts to x. */
export const PRelu: GradientRule = binary(({ dy }, ops, [x, slope]) => {
  const positive = () => ops.op("Greater", [x, ops.number(0, x)]);
  return [
    () => ops.where(positive(), dy, ops.mul(dy, slope)),
    () => ops.where(positive(), ops.number(0, x), ops.mul(dy, x)),
  ];
});

/** Flat almost everywhere: no gradient, as in torch. */
export const noGradient: GradientRule = () => [];
export const Floor: GradientRule = noGradient;
export const Ceil: GradientRule = noGradient;
export const Round: GradientRule = noGradient;
export const Sign: GradientRule = noGradient;
export const EyeLike: GradientRule = noGradient;

/** Only between float types; a cast to or from integers or bool carries no gradient. */
export const Cast: GradientRule = unary(({ dy }, ops, x) => ops.cast(dy, ops.build.static(x).dtype));
export const CastLike: GradientRule = Cast;
