import type { Static } from "../ir.ts";
import type { Site } from "../site.ts";
import { demandRank, demandShape, demandSize, same } from "./rule.ts";

/**
 * `[batch, heads, sequence, size]` of an input of rank 4, or of rank 3 with as many heads as the attribute
 * says.
 */
function stack(at: Site, index: number, attribute: string): readonly [number, number, number, number] {
  const shape = at.shape(index);
  if (shape.length === 4) return shape as [number, number, number, number];
  demandSize(at, `rank of input ${index}`, { expected: 3, got: shape.length });
  const heads = at.int(attribute);
  demandSize(at, `input ${index}: hidden size modulo heads`, { expected: 0, got: shape[2]! % heads });
  return [shape[0]!, heads, shape[1]!, shape[2]! / heads];
}

/** Y, present_key, present_value and qk_matmul_output (Attention, since version 23). */
export function Attention(at: Site): readonly Static[] {
  const [q, k, v] = [stack(at, 0, "q_num_heads"), stack(at, 1, "kv_num_heads"), stack(at, 2, "kv_num_heads")];
  const dtype = at.dtype(0);
  demandSize(at, "size of a key's head", { expected: q[3], got: k[3] });
  demandSize(at, "key and value heads", { expected: k[1], got: v[1] });
  demandSize(at, "query heads modulo key heads", { expected: 0, got: q[1] % k[1] });
  const past = at.has(4) ? at.shape(4)[2]! : 0;
  const total = past + k[2];
  const y = at.shape(0).length === 4 ? [q[0], q[1], q[2], v[3]] : [q[0], q[2], q[1] * v[3]];
  return [
    { dtype, shape: y },
    { dtype, shape: [k[0], k[1], total, k[3]] },
    { dtype: at.dtype(2), shape: [v[0], v[1], past + v[2], v[3]] },
    { dtype, shape: [q[0], q[1], q[2], total] },
  ];
}

/** X, cos_cache, sin_cache and, where these are tables by position, position_ids (since version 23). */
export function RotaryEmbedding(at: Site) {
  const { batch, sequence, width } = turning(at, 1);
  if (at.has(3)) {
    demandRank(at, 1, 2);
    demandShape(at, 3, [batch, sequence]);
  } else demandShape(at, 1, [batch, sequence, width]);
  return same(at);
}

/**
 * Places of X, and pairs of a head that turn, of which the tables (from input `index` on) have a column
 * each.
 */
export function turning(at: Site, index: number): { batch: number; sequence: number; width: number } {
  demandRank(at, 0, 3, 4);
  demandRank(at, index, 2, 3);
  demandShape(at, index + 1, at.shape(index));
  const [shape, width] = [at.shape(0), at.shape(index).at(-1)!];
  const dim = at.int("rotary_embedding_dim", 0) || 2 * width;
  const heads = at.int("num_heads", 0) || shape.at(-1)! / dim;
  const size = shape.length === 4 ? shape[3]! : shape[2]! / heads;
  const apart = shape.length === 4 || Number.isInteger(heads);
  if (!apart || !Number.isInteger(size) || size < dim || dim !== 2 * width)
    throw at.fault("bad-input", `columns of input ${index}`, {
      expected: `half of ${dim}, within heads of ${size}`,
      got: `${width}`,
    });
  return { batch: shape[0]!, sequence: shape.at(-2)!, width };
}
