import { groupSizes } from "../../infer/microsoft/attention.ts";
import type { Ops } from "../../ops.ts";
import type { Site } from "../../site.ts";
import {
  attend,
  band,
  byHead,
  counting,
  headsJoined,
  masked,
  type Stack,
  sumOfBiases,
  upright,
} from "../heads.ts";
import { cutInto, joined } from "../parts.ts";
import { rotated } from "../rotary.ts";
import type { Expansion } from "../rule.ts";
import { plainOnly, scaleOf } from "./attention.ts";

type Sizes = ReturnType<typeof groupSizes>;

/**
 * How many keys came before: a number where it is known and one for all examples, else int64
 * `[batch, 1, 1, 1]`.
 */
type Past = number | string;

/**
 * Causal attention with fewer key heads than query heads and a cache. A prompt is as long as the total and
 * takes nothing from a past; padding at its end then changes no row but its own, so `seqlens_k` is not read.
 * After a prompt, `seqlens_k` + 1 − queries keys of the past count (com.microsoft, GroupQueryAttention).
 */
export const GroupQueryAttention: Expansion = (at, ops) => {
  refuse(at);
  const sizes = groupSizes(at);
  const past = pastOf(at, ops, sizes);
  const [q, k, v] = turned(at, ops, { sizes, past, stacks: stacksOf(at, ops, sizes) });
  const [keys, values] = [
    extended(at, ops, { past, index: 3, now: k }),
    extended(at, ops, { past, index: 4, now: v }),
  ];
  const bias = sumOfBiases(ops, [
    masked(ops, visible(at, ops, { sizes, past }), { like: at.input(0) }),
    at.has(10) ? at.input(10) : undefined,
  ]);
  const scoring = { scale: scaleOf(at, sizes.size), softcap: at.float("softcap", 0), sink: sinkOf(at, ops) };
  const { y } = attend(ops, { q, k: keys, v: values }, { ...scoring, bias });
  const present = (index: number, stack: Stack) =>
    at.wants(index) ? cache(at, ops, { stack, sizes, past }) : undefined;
  return [headsJoined(ops, y), present(1, keys), present(2, values)];
};

function refuse(at: Site): void {
  plainOnly(at, {
    fixed: [
      ["causal", 1],
      ["sliding_window_cache", 0],
      ["kv_cache_bit_width", 0],
      ["k_quant_type", "NONE"],
      ["v_quant_type", "NONE"],
      ["qk_output", 0],
    ],
    absent: [
      [12, "k_scale"],
      [13, "v_scale"],
      [14, "q_norm_weight"],
      [15, "k_norm_weight"],
    ],
  });
  if (at.wants(3)) throw at.fault("unsupported", "output 3 (output_qk)");
}

function stacksOf(at: Site, ops: Ops, { heads, shared, size }: Sizes): readonly [Stack, Stack, Stack] {
  const counts = [heads, shared, shared];
  const parts = at.has(1)
    ? [at.input(0), at.input(1), at.input(2)]
    : cutInto(ops, at.input(0), { axis: 2, sizes: counts.map((count) => count * size) });
  return parts.map((x, i) => byHead(ops, x, counts[i]!)) as unknown as readonly [Stack, Stack, Stack];
}

function pastOf(at: Site, ops: Ops, { queries, total, past, batch }: Sizes): Past {
  if (queries === total || past === 0) return 0;
  const known = at.constant(5) && at.numbers(5);
  const count = known?.[0];
  if (count !== undefined && known?.every((value) => value === count)) {
    const before = count + 1 - queries;
    if (before >= 0 && before <= past) return before;
    const expected = `${queries - 1} to ${queries - 1 + past}`;
    throw at.fault("bad-input", "seqlens_k", { expected, got: `${count}` });
  }
  const lengths = ops.reshape(ops.cast(at.input(5), "int64"), [batch, 1, 1, 1]);
  return ops.sub(lengths, ops.build.ints([queries - 1]));
}

/** Q and K turned to their positions, which begin after the past. */
function turned(
  at: Site,
  ops: Ops,
  { sizes, past, stacks }: { sizes: Sizes; past: Past; stacks: readonly [Stack, Stack, Stack] },
): readonly [Stack, Stack, Stack] {
  if (at.int("do_rotary", 0) === 0) return stacks;
  const [q, k, v] = stacks;
  const places = counting(ops, [1, sizes.queries]);
  const first = typeof past === "number" ? ops.build.ints([past]) : ops.reshape(past, [sizes.batch, 1]);
  const positions = at.has(9) ? ops.cast(at.input(9), "int64") : ops.add(places, first);
  const interleaved = at.int("rotary_interleaved", 0) !== 0;
  const turns = { cos: at.input(7), sin: at.input(8), interleaved, positions };
  return [rotated(ops, q, turns), rotated(ops, k, turns), v];
}

/** The past's keys or values, then these; all of the past where its length is known only in the run. */
function extended(
  at: Site,
  ops: Ops,
  { past, index, now }: { past: Past; index: number; now: Stack },
): Stack {
  if (past === 0) return now;
  const held = at.input(index);
  const used = typeof past === "number" && past < ops.shape(held)[2]!;
  const kept = used ? ops.slice(held, { axes: [2], starts: [0], ends: [past] }) : held;
  return { x: joined(ops, [kept, upright(ops, now)], 2), bySequence: false };
}

/** Which of the past's and the new keys each query sees: `[queries, keys]`, or by example. */
function visible(at: Site, ops: Ops, { sizes, past }: { sizes: Sizes; past: Past }): string {
  const { queries, batch } = sizes;
  const asked = at.int("local_window_size", -1);
  const windowed = asked > 0 ? { window: asked } : {};
  if (typeof past === "number")
    return band(ops, { queries, keys: past + queries, offset: past, ...windowed });
  // A key of the past counts if its place is below the past's length, and in the window if it is at most
  // `window` − 1 places before the query.
  const places = counting(ops, [sizes.past]);
  const inPast = ops.op("Less", [places, past]);
  const here = ops.add(past, counting(ops, [queries, 1]));
  const near = ops.op("Greater", [places, ops.sub(here, ops.build.ints([asked]))]);
  const old = asked > 0 ? ops.op("And", [inPast, near]) : inPast;
  const recent = band(ops, { queries, keys: queries, offset: 0, ...windowed });
  return joined(
    ops,
    [ops.expand(old, [batch, 1, queries, sizes.past]), ops.expand(recent, [batch, 1, queries, queries])],
    3,
  );
}

/** Softmax's extra logit: 0 for `smooth_softmax`, or learnt by head. */
function sinkOf(at: Site, ops: Ops): string | undefined {
  if (at.has(11)) return ops.reshape(at.input(11), [at.int("num_heads"), 1, 1]);
  return at.int("smooth_softmax", 0) === 0 ? undefined : ops.zeros([1, 1, 1], at.input(0));
}

/** Keys or values as the cache's next state, zeros to its end. */
function cache(
  at: Site,
  ops: Ops,
  { stack, sizes, past }: { stack: Stack; sizes: Sizes; past: Past },
): string {
  if (typeof past === "string")
    throw at.fault("unsupported", "present_key and present_value", {
      expected: "seqlens_k known before the run, equal for all examples",
      got: "one that is fed",
    });
  const x = upright(ops, stack);
  const missing = sizes.present - ops.shape(x)[2]!;
  return ops.pad(x, { before: [0, 0, 0, 0], after: [0, 0, missing, 0] });
}
