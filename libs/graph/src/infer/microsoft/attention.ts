import type { Static } from "../../ir.ts";
import type { Site } from "../../site.ts";
import { turning } from "../attention.ts";
import { demandRank, demandShape, demandSingle, demandSize, same } from "../rule.ts";

/** X, position_ids (one, or one per place) and the tables cos_cache and sin_cache. */
export function RotaryEmbedding(at: Site) {
  demandRank(at, 2, 2);
  const { batch, sequence } = turning(at, 2);
  if (at.shape(1).length === 1) demandSingle(at, 1);
  else demandShape(at, 1, [batch, sequence]);
  return same(at);
}

/**
 * Hidden sizes of Q, K and V inside the packed weights; equal thirds by default (com.microsoft, Attention).
 */
export function packedSizes(at: Site): readonly [number, number, number] {
  const width = at.shape(1)[1] ?? 0;
  const [q = 0, k = 0, v = 0] = at.ints("qkv_hidden_sizes", [width / 3, width / 3, width / 3]);
  demandSize(at, "columns of the weights", { expected: q + k + v, got: width });
  demandSize(at, "hidden size of K", { expected: q, got: k });
  return [q, k, v];
}

/** Output `[batch, sequence, hidden of V]` and present `[2, batch, heads, past + sequence, size]`. */
export function Attention(at: Site): readonly Static[] {
  const [batch, sequence, width] = at.shape(0) as [number, number, number];
  demandSize(at, "rows of the weights", { expected: width, got: at.shape(1)[0] ?? 0 });
  const [q, , v] = packedSizes(at);
  const heads = at.int("num_heads");
  const past = at.has(4) ? at.shape(4)[3]! : 0;
  const dtype = at.dtype(0);
  return [
    { dtype, shape: [batch, sequence, v] },
    { dtype, shape: [2, batch, heads, past + sequence, q / heads] },
  ];
}

/**
 * Where Q, K and V of MultiHeadAttention lie: three inputs `[batch, sequence, hidden]`; keys and values as
 * `[batch, heads, sequence, size]`; or packed, `[batch, sequence, heads, 2 or 3, size]`.
 */
export type Form = "apart" | "upright" | "packed-kv" | "packed-qkv";

export function formOf(at: Site): Form {
  if (!at.has(1)) return "packed-qkv";
  if (!at.has(2)) return "packed-kv";
  return at.shape(1).length === 4 ? "upright" : "apart";
}

/** Sizes of MultiHeadAttention: heads, a head of Q or K, a head of V, queries, keys before the past's. */
export function multiHeadSizes(at: Site) {
  const heads = at.int("num_heads");
  const form = formOf(at);
  const [batch, queries] = at.shape(0) as [number, number];
  const ranks = { apart: [3, 3], upright: [3, 4], "packed-kv": [3, 5], "packed-qkv": [5, 5] }[form];
  demandSize(at, "rank of query", { expected: ranks[0]!, got: at.shape(0).length });
  const from = form === "packed-qkv" ? 0 : 1;
  demandSize(at, `rank of input ${from}`, { expected: ranks[1]!, got: at.shape(from).length });
  const shape = at.shape(from);
  const size = form === "packed-qkv" ? shape[4]! : at.shape(0)[2]! / heads;
  const keys = form === "upright" ? shape[2]! : shape[1]!;
  const valueSize = form === "apart" ? at.shape(2)[2]! / heads : shape.at(-1)!;
  return {
    form,
    heads,
    batch,
    queries,
    keys,
    size,
    valueSize: form === "upright" ? at.shape(2)[3]! : valueSize,
  };
}

/** Output, present_key, present_value and the scores (com.microsoft, MultiHeadAttention). */
export function MultiHeadAttention(at: Site): readonly Static[] {
  const { heads, batch, queries, keys, size, valueSize } = multiHeadSizes(at);
  const total = keys + (at.has(6) ? at.shape(6)[2]! : 0);
  const dtype = at.dtype(0);
  return [
    { dtype, shape: [batch, queries, heads * valueSize] },
    { dtype, shape: [batch, heads, total, size] },
    { dtype, shape: [batch, heads, total, valueSize] },
    { dtype, shape: [batch, heads, queries, total] },
  ];
}

/** Sizes of GroupQueryAttention; `present` is the length of the caches it gives back. */
export function groupSizes(at: Site) {
  const [heads, shared] = [at.int("num_heads"), at.int("kv_num_heads")];
  const [batch, queries, hidden] = at.shape(0) as [number, number, number];
  const size = hidden / (at.has(1) ? heads : heads + 2 * shared);
  const total = at.numbers(6)[0] ?? 0;
  const past = at.has(3) ? at.shape(3)[2]! : 0;
  demandSize(at, "query heads modulo key heads", { expected: 0, got: heads % shared });
  if (total < queries || total > past + queries)
    throw at.fault("bad-input", "total_sequence_length", {
      expected: `${queries} to ${past + queries}`,
      got: `${total}`,
    });
  return { heads, shared, batch, queries, size, total, past, present: Math.max(past, total) };
}

/** Output, present_key, present_value and the scores (com.microsoft, GroupQueryAttention). */
export function GroupQueryAttention(at: Site): readonly Static[] {
  const { heads, shared, batch, queries, size, total, present } = groupSizes(at);
  const dtype = at.dtype(0);
  const cache = { dtype, shape: [batch, shared, present, size] };
  const scores = { dtype, shape: [batch, heads, queries, total] };
  return [{ dtype, shape: [batch, queries, heads * size] }, cache, cache, scores];
}
