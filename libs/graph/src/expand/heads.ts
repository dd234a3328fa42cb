import { assert } from "@tutti/foundation/check";
import { type Ops, range } from "../ops.ts";
import { int64, tensorOf } from "../tensor.ts";
import { cutInto, joined } from "./parts.ts";

/**
 * What each head reads: `[batch, heads, sequence, size]`, or by sequence `[batch, sequence, heads, size]`.
 */
export type Stack = { readonly x: string; readonly bySequence: boolean };

/** `[batch, sequence, heads·size]` cut into heads, not yet moved. */
export function byHead(ops: Ops, x: string, heads: number): Stack {
  const [batch, sequence, hidden] = ops.shape(x) as [number, number, number];
  return { x: ops.reshape(x, [batch, sequence, heads, hidden / heads]), bySequence: true };
}

/** `[batch, heads, sequence, size]`. */
export function upright(ops: Ops, { x, bySequence }: Stack): string {
  return bySequence ? ops.transpose(x, [0, 2, 1, 3]) : x;
}

/** `[batch, heads, size, sequence]`, in one move from either order. */
function turned(ops: Ops, { x, bySequence }: Stack): string {
  return bySequence ? ops.transpose(x, [0, 2, 3, 1]) : ops.swap(x);
}

/** Heads side by side again: `[batch, sequence, heads·size]` of `[batch, heads, sequence, size]`. */
export function headsJoined(ops: Ops, x: string): string {
  const [batch, heads, sequence, size] = ops.shape(x) as [number, number, number, number];
  return ops.reshape(ops.transpose(x, [0, 2, 1, 3]), [batch, sequence, heads * size]);
}

export type Scoring = {
  readonly scale: number;
  /** Scores pass c·tanh(x/c); 0 for none. */
  readonly softcap?: number;
  /** Added to the scores, broadcast: −∞ hides a key; see `masked`. */
  readonly bias?: string | undefined;
  /** One more logit per row, `[1 or heads, 1, 1]`, which takes its share and has no value. */
  readonly sink?: string | undefined;
};

/**
 * The scores at each stage, `[batch, heads, queries, keys]`, and the result `[batch, heads, queries, size]`.
 */
export type Attended = {
  readonly y: string;
  readonly raw: string;
  readonly capped: string;
  readonly biased: () => string;
  readonly weights: () => string;
};

/**
 * softmax(cap(q·kᵀ·scale) + bias)·v. Where keys have fewer heads than queries, each serves a run of query
 * heads (grouped queries, Ainslie et al. 2023): these become rows of one product, so that no key is repeated.
 * A query that sees no key gives 0, as the standard has it, and no gradient.
 */
export function attend(
  ops: Ops,
  { q, k, v }: { q: Stack; k: Stack; v: Stack },
  { scale, softcap = 0, bias, sink }: Scoring,
): Attended {
  const [query, keys, values] = [upright(ops, q), turned(ops, k), upright(ops, v)];
  const [batch, heads, rows, size] = ops.shape(query) as [number, number, number, number];
  const [, shared, , keyCount] = ops.shape(keys) as [number, number, number, number];
  assert(heads % shared === 0, `query heads are a multiple of key heads: ${heads} of ${shared}`);
  const grouped = (x: string, last: number) => ops.reshape(x, [batch, shared, (heads / shared) * rows, last]);
  const apart = (x: string, last: number) => ops.reshape(x, [batch, heads, rows, last]);
  const raw = apart(ops.matmul(grouped(ops.scale(query, scale), size), keys), keyCount);
  const capped = softcap > 0 ? ops.scale(ops.op("Tanh", [ops.scale(raw, 1 / softcap)]), softcap) : raw;
  const { added, live } = bias === undefined ? NOTHING : tamed(ops, bias);
  const scores = added === undefined ? capped : ops.add(capped, added);
  const weights = sink === undefined ? softmax(ops, scores) : softmaxWithSink(ops, scores, sink);
  const y = apart(ops.matmul(grouped(weights, keyCount), values), ops.shape(values)[3]!);
  const seeing = (x: string) => (live === undefined ? x : ops.gate(live, x));
  return {
    y: seeing(y),
    raw,
    capped,
    biased: () => (bias === undefined ? capped : ops.add(capped, bias)),
    weights: () => seeing(weights),
  };
}

const NOTHING = { added: undefined, live: undefined };

/** Low enough that its exponential is 0 beside any score, and two of it are still a number in float32. */
const LOW = -1e38;

/**
 * A bias without −∞, whose rows of nothing else would make softmax NaN, and which rows have something to see
 * (undefined when all do). Work is on the mask, which is smaller than the scores as a rule.
 */
function tamed(ops: Ops, bias: string): { added: string; live: string | undefined } {
  const last = ops.shape(bias).length - 1;
  const most = ops.op("ReduceMax", [bias], { axes: [last], keepdims: 1 });
  const live = ops.op("Greater", [most, ops.number(Number.NEGATIVE_INFINITY, bias)]);
  const known = ops.build.constantOf(live)?.data as Uint8Array | undefined;
  const added = ops.op("Max", [bias, ops.number(LOW, bias)]);
  return { added, live: known?.every((flag) => flag === 1) ? undefined : live };
}

function softmax(ops: Ops, x: string): string {
  return ops.op("Softmax", [x], { axis: ops.shape(x).length - 1 });
}

function softmaxWithSink(ops: Ops, scores: string, sink: string): string {
  const shape = ops.shape(scores);
  const keyCount = shape.at(-1)!;
  const all = joined(ops, [scores, ops.expand(sink, shape.with(-1, 1))], 3);
  return cutInto(ops, softmax(ops, all), { axis: 3, sizes: [keyCount, 1] })[0]!;
}

/** 0 where a key may be seen and `otherwise` where not, in the float type of `like`. */
export function masked(
  ops: Ops,
  allowed: string,
  { like, otherwise = Number.NEGATIVE_INFINITY }: { like: string; otherwise?: number },
): string {
  return ops.where(allowed, ops.number(0, like), ops.number(otherwise, like));
}

/** The sum of the biases there are. */
export function sumOfBiases(ops: Ops, biases: readonly (string | undefined)[]): string | undefined {
  const there = biases.filter((bias) => bias !== undefined);
  return there.length === 0 ? undefined : there.reduce((sum, bias) => ops.add(sum, bias));
}

export type Band = {
  readonly queries: number;
  readonly keys: number;
  /** Position of the first query among the keys. */
  readonly offset: number;
  /** How many keys a query sees, its own included; all before it unless given. */
  readonly window?: number;
};

/** Which keys a query sees that looks back only, `[queries, keys]`: a constant. */
export function band(ops: Ops, { queries, keys, offset, window }: Band): string {
  const seen = range(queries).flatMap((i) =>
    range(keys).map((j) => {
      const back = offset + i - j;
      return back >= 0 && (window === undefined || back < window) ? 1 : 0;
    }),
  );
  return ops.build.constant(tensorOf("bool", [queries, keys], seen));
}

/** 0, 1, … `length` − 1 as int64 of a given shape. */
export function counting(ops: Ops, shape: readonly number[]): string {
  const length = shape.reduce((product, size) => product * size, 1);
  return ops.build.constant(int64(range(length), shape));
}
