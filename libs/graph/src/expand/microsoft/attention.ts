import { type Form, multiHeadSizes, packedSizes } from "../../infer/microsoft/attention.ts";
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
import { turnedInPlace } from "../rotary.ts";
import { type Expansion, single } from "../rule.ts";

/**
 * Refuses what a node asks for beyond what we have: attributes that must keep their value, inputs left out.
 */
export function plainOnly(
  at: Site,
  {
    fixed = [],
    absent = [],
  }: {
    /** Attributes with the value they have, given or not. */
    fixed?: readonly (readonly [name: string, value: number | string])[];
    absent?: readonly (readonly [number, string])[];
  },
): void {
  for (const [name, value] of fixed) {
    const got = at.node.attributes.get(name)?.value ?? value;
    if (got === value) continue;
    throw at.fault("unsupported", `attribute ${name}`, { expected: `${value}`, got: `${got}` });
  }
  for (const [index, name] of absent) {
    if (!at.has(index)) continue;
    throw at.fault("unsupported", `input ${index} (${name})`, { expected: "nothing", got: "a value" });
  }
}

/** 1/√size unless the node says otherwise; 0 says nothing. */
export function scaleOf(at: Site, size: number): number {
  return at.float("scale", 0) || 1 / Math.sqrt(size);
}

type Sizes = {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly past: number;
};

/** `[batch, 1, 1 or queries, keys]`: masks of the heads' shape, to broadcast over heads. */
function biasOf(
  at: Site,
  ops: Ops,
  { padding, added, ...sizes }: Sizes & { padding: number; added: number },
) {
  const like = at.input(0);
  const { queries, keys, past } = sizes;
  const hidden = at.has(padding) ? unpadded(at, ops, { index: padding, ...sizes }) : undefined;
  return sumOfBiases(ops, [
    hidden && masked(ops, hidden, { like, otherwise: at.float("mask_filter_value", -10000) }),
    at.int("unidirectional", 0) === 0
      ? undefined
      : masked(ops, band(ops, { queries, keys, offset: past }), { like }),
    at.has(added) ? at.input(added) : undefined,
  ]);
}

/**
 * Which keys are no padding. Forms: `[batch]` lengths; `[2·batch]` ends, then starts; `[batch, keys]` or
 * `[batch, queries, keys]` with 0 for padding.
 */
function unpadded(at: Site, ops: Ops, { index, batch, queries, keys }: Sizes & { index: number }): string {
  const shape = at.shape(index);
  const mask = at.input(index);
  const form = `${shape}`;
  const places = counting(ops, [keys]);
  const column = (x: string) => ops.reshape(ops.cast(x, "int64"), [batch, 1, 1, 1]);
  if (form === `${batch}`) return ops.op("Less", [places, column(mask)]);
  if (form === `${2 * batch}`) {
    const [ends, starts] = cutInto(ops, mask, { axis: 0, sizes: [batch, batch] });
    const begun = ops.op("Not", [ops.op("Less", [places, column(starts!)])]);
    return ops.op("And", [begun, ops.op("Less", [places, column(ends!)])]);
  }
  if (form === `${[batch, keys]}` || form === `${[batch, queries, keys]}`) {
    const rows = shape.length === 3 ? queries : 1;
    return ops.op("Greater", [
      ops.reshape(ops.cast(mask, "int64"), [batch, 1, rows, keys]),
      ops.build.ints([0]),
    ]);
  }
  throw at.fault("unsupported", `input ${index} (mask)`, {
    expected: `[${batch}], [${2 * batch}], [${batch},${keys}] or [${batch},${queries},${keys}]`,
    got: `[${shape}]`,
  });
}

/** Q, K and V by one product with packed weights; `past` and `present` hold K and V together. */
export const Attention: Expansion = (at, ops) => {
  plainOnly(at, {
    fixed: [
      ["do_rotary", 0],
      ["past_present_share_buffer", 0],
    ],
    absent: [[6, "past_sequence_length"]],
  });
  const [batch, queries] = at.shape(0) as [number, number];
  const heads = at.int("num_heads");
  const product = ops.matmul(at.input(0), at.input(1));
  const biased = at.has(2) ? ops.add(product, at.input(2)) : product;
  const [q, k, v] = cutInto(ops, biased, { axis: 2, sizes: packedSizes(at) }).map((x) =>
    byHead(ops, x, heads),
  );
  const past = at.has(4) ? cutInto(ops, at.input(4), { axis: 0, sizes: [1, 1] }) : [];
  const [keys, values] = [after(ops, past[0], k!), after(ops, past[1], v!)];
  const before = at.has(4) ? at.shape(4)[3]! : 0;
  const sizes = { batch, queries, keys: before + queries, past: before };
  const { y } = attend(
    ops,
    { q: q!, k: keys, v: values },
    { scale: scaleOf(at, ops.shape(q!.x)[3]!), bias: biasOf(at, ops, { padding: 3, added: 5, ...sizes }) },
  );
  const present = () => {
    const both = [keys, values].map((stack) => upright(ops, stack));
    return joined(
      ops,
      both.map((x) => ops.reshape(x, [1, ...ops.shape(x)])),
      0,
    );
  };
  return [headsJoined(ops, y), at.wants(1) ? present() : undefined];
};

/** A stack after the keys or values of the past, if any. */
function after(ops: Ops, past: string | undefined, now: Stack): Stack {
  if (past === undefined) return now;
  const held = ops.reshape(past, ops.shape(past).slice(-4));
  return { x: joined(ops, [held, upright(ops, now)], 2), bySequence: false };
}

/** Q, K and V apart or packed, with one bias for all three (com.microsoft, MultiHeadAttention). */
export const MultiHeadAttention: Expansion = (at, ops) => {
  plainOnly(at, {
    absent: [
      [8, "past_sequence_length"],
      [9, "cache_indirection"],
    ],
  });
  const { heads, batch, queries, keys, size, form } = multiHeadSizes(at);
  const [q, k, v] = biasedStacks(at, ops, stacksOf(at, ops, { form, heads }));
  const [past, pastValues] = [6, 7].map((index) => (at.has(index) ? at.input(index) : undefined));
  const [allKeys, values] = [after(ops, past, k), after(ops, pastValues, v)];
  const before = past === undefined ? 0 : ops.shape(past)[2]!;
  const sizes = { batch, queries, keys: before + keys, past: before };
  const bias = biasOf(at, ops, { padding: 4, added: 5, ...sizes });
  const attended = attend(ops, { q, k: allKeys, v: values }, { scale: scaleOf(at, size), bias });
  const wanted = (index: number, name: () => string) => (at.wants(index) ? name() : undefined);
  return [
    headsJoined(ops, attended.y),
    wanted(1, () => upright(ops, allKeys)),
    wanted(2, () => upright(ops, values)),
    wanted(3, attended.biased),
  ];
};

type Three = readonly [Stack, Stack, Stack];

function stacksOf(at: Site, ops: Ops, { form, heads }: { form: Form; heads: number }): Three {
  const whole = (index: number) => byHead(ops, at.input(index), heads);
  const packed = (index: number) => {
    const [batch, sequence, , count, size] = at.shape(index) as [number, number, number, number, number];
    const parts = cutInto(ops, at.input(index), { axis: 3, sizes: new Array<number>(count).fill(1) });
    return parts.map((x) => ({ x: ops.reshape(x, [batch, sequence, heads, size]), bySequence: true }));
  };
  if (form === "packed-qkv") return packed(0) as unknown as Three;
  if (form === "packed-kv") return [whole(0), ...packed(1)] as unknown as Three;
  if (form === "apart") return [whole(0), whole(1), whole(2)];
  return [whole(0), { x: at.input(1), bySequence: false }, { x: at.input(2), bySequence: false }];
}

/** `bias` holds Q's, K's and V's share; keys that come upright have theirs already. */
function biasedStacks(at: Site, ops: Ops, stacks: Three): Three {
  if (!at.has(3)) return stacks;
  const widths = stacks.map(({ x, bySequence }) => {
    const shape = ops.shape(x);
    return shape[bySequence ? 2 : 1]! * shape[3]!;
  });
  const shares = cutInto(ops, at.input(3), { axis: 0, sizes: widths });
  return stacks.map(({ x, bySequence }, i) => {
    if (!bySequence) return { x, bySequence };
    const [, , heads, size] = ops.shape(x) as [number, number, number, number];
    return { x: ops.add(x, ops.reshape(shares[i]!, [heads, size])), bySequence };
  }) as unknown as Three;
}

/**
 * X `[batch, heads, sequence, size]` or `[batch, sequence, hidden]`, position_ids `[batch, sequence]` or
 * `[1]`, cos_cache and sin_cache `[positions, width]`; one id alone is the first place's, and the others
 * follow (com.microsoft, RotaryEmbedding).
 */
export const RotaryEmbedding = single((at, ops) => {
  plainOnly(at, {
    fixed: [
      ["is_packed_batching", 0],
      ["scale", 1],
    ],
  });
  const shape = at.shape(0);
  const sequence = shape.length === 4 ? shape[2]! : shape[1]!;
  const ids = ops.cast(at.input(1), "int64");
  const positions =
    at.shape(1).length === 2 ? ids : ops.reshape(ops.add(ids, counting(ops, [sequence])), [1, sequence]);
  const dim = at.int("rotary_embedding_dim", 0);
  const heads = at.int("num_heads", 0) || shape[2]! / (dim || 2 * at.shape(2)[1]!);
  const turns = {
    ...{ cos: at.input(2), sin: at.input(3), positions },
    interleaved: at.int("interleaved", 0) !== 0,
  };
  return turnedInPlace(at, ops, { heads, turns });
});
