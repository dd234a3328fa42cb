import type { Ops } from "../ops.ts";
import type { Site } from "../site.ts";
import {
  type Attended,
  attend,
  band,
  byHead,
  counting,
  headsJoined,
  masked,
  type Stack,
  sumOfBiases,
  upright,
} from "./heads.ts";
import { joined } from "./parts.ts";
import type { Expansion } from "./rule.ts";

const [MASK, PAST_KEY, PAST_VALUE, LENGTHS] = [3, 4, 5, 6];

/**
 * Q, K and V of rank 4 `[batch, heads, sequence, size]`, or of rank 3 with `q_num_heads` and `kv_num_heads`
 * (Attention, since version 23; a mask shorter than the keys and `nonpad_kv_seqlen` since 24). Softmax is
 * computed in the inputs' own type, whatever `softmax_precision` asks beyond it.
 */
export const Attention: Expansion = (at, ops) => {
  const part = (index: number, heads: string): Stack =>
    at.shape(index).length === 4
      ? { x: at.input(index), bySequence: false }
      : byHead(ops, at.input(index), at.int(heads));
  const q = part(0, "q_num_heads");
  const k = withPast(at, ops, { now: part(1, "kv_num_heads"), past: PAST_KEY });
  const v = withPast(at, ops, { now: part(2, "kv_num_heads"), past: PAST_VALUE });
  const size = ops.shape(q.x)[3]!;
  const scale = at.float("scale", 1 / Math.sqrt(size));
  const bias = biasOf(at, ops, { queries: lengthOf(ops, q), keys: lengthOf(ops, k) });
  const attended = attend(ops, { q, k, v }, { scale, softcap: at.float("softcap", 0), bias });
  const wanted = (index: number, name: () => string) => (at.wants(index) ? name() : undefined);
  return [
    at.shape(0).length === 4 ? attended.y : headsJoined(ops, attended.y),
    wanted(1, () => upright(ops, k)),
    wanted(2, () => upright(ops, v)),
    wanted(3, () => scoresAt(at, attended)),
  ];
};

function lengthOf(ops: Ops, { x, bySequence }: Stack): number {
  return ops.shape(x)[bySequence ? 1 : 2]!;
}

function withPast(at: Site, ops: Ops, { now, past }: { now: Stack; past: number }): Stack {
  if (!at.has(past)) return now;
  return { x: joined(ops, [at.input(past), upright(ops, now)], 2), bySequence: false };
}

/** Stages as the standard's function numbers them; the cap comes before the mask. */
function scoresAt(at: Site, { raw, capped, biased, weights }: Attended): string {
  const mode = at.int("qk_matmul_output_mode", 0);
  const stage = [() => raw, () => capped, biased, weights][mode];
  if (stage) return stage();
  throw at.fault("bad-input", "attribute qk_matmul_output_mode", {
    expected: "0, 1, 2 or 3",
    got: `${mode}`,
  });
}

function biasOf(at: Site, ops: Ops, { queries, keys }: { queries: number; keys: number }) {
  const like = at.input(0);
  const lengths = at.has(LENGTHS)
    ? ops.reshape(ops.cast(at.input(LENGTHS), "int64"), [at.shape(LENGTHS)[0]!, 1, 1, 1])
    : undefined;
  const hide = (allowed: string) => masked(ops, allowed, { like });
  return sumOfBiases(ops, [
    maskBias(at, ops, keys),
    at.int("is_causal", 0) === 0 ? undefined : hide(causal(at, ops, { queries, keys, lengths })),
    lengths && hide(ops.op("Less", [counting(ops, [keys]), lengths])),
  ]);
}

/** `attn_mask` as something to add; keys beyond its end are hidden. */
function maskBias(at: Site, ops: Ops, keys: number): string | undefined {
  if (!at.has(MASK)) return undefined;
  const mask = at.input(MASK);
  const added = at.dtype(MASK) === "bool" ? masked(ops, mask, { like: at.input(0) }) : mask;
  const shape = at.shape(MASK);
  const before = shape.map(() => 0);
  const short = shape.at(-1) === 1 ? 0 : keys - shape.at(-1)!;
  return ops.pad(added, { before, after: before.with(-1, short), value: Number.NEGATIVE_INFINITY });
}

/**
 * A query's position among the keys: after the past where there is one; with `nonpad_kv_seqlen` the queries
 * are the last of each example's keys; else query i stands at key i.
 */
function causal(
  at: Site,
  ops: Ops,
  { queries, keys, lengths }: { queries: number; keys: number; lengths: string | undefined },
): string {
  if (lengths === undefined || at.has(PAST_KEY)) {
    const offset = at.has(PAST_KEY) ? at.shape(PAST_KEY)[2]! : 0;
    return band(ops, { queries, keys, offset });
  }
  const end = ops.add(counting(ops, [queries, 1]), ops.sub(lengths, ops.build.ints([queries - 1])));
  return ops.op("Less", [counting(ops, [keys]), end]);
}
