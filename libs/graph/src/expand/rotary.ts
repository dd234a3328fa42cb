import type { Ops } from "../ops.ts";
import type { Site } from "../site.ts";
import type { Stack } from "./heads.ts";
import { cutInto, joined } from "./parts.ts";
import { single } from "./rule.ts";

/** Cosines and sines of each position's angles, as read by `rotated`. */
export type Turns = {
  /** `[…, rotary size / 2]`: a table by position, or one row per place. */
  readonly cos: string;
  readonly sin: string;
  readonly interleaved: boolean;
  /** Rows of the table, `[batch or 1, sequence]`; without them `cos` has a row per place already. */
  readonly positions?: string | undefined;
};

/**
 * Each pair (a, b) of a head turned by its position's angle: (a·cos − b·sin, a·sin + b·cos), Su et al. 2021,
 * section 3.4.2. Written as x·C + swapped(x)·S with C = (cos, cos) and S = (−sin, sin), tables that are
 * constant as a rule. Pairs lie half a size apart, or side by side when interleaved; what lies beyond the
 * rotary size stays.
 */
export function rotated(ops: Ops, stack: Stack, turns: Turns): Stack {
  const { x, bySequence } = stack;
  const shape = ops.shape(x);
  const size = shape[3]!;
  const dim = 2 * ops.shape(turns.cos).at(-1)!;
  const sizes = dim === size ? [dim] : [dim, size - dim];
  const [turning, ...rest] = cutInto(ops, x, { axis: 3, sizes });
  const placed = (table: string) => atPlaces(ops, table, { positions: turns.positions, bySequence });
  const cos = placed(paired(ops, [turns.cos, turns.cos], turns.interleaved));
  const sin = placed(paired(ops, [ops.op("Neg", [turns.sin]), turns.sin], turns.interleaved));
  const crossed = swappedPairs(ops, turning!, turns.interleaved);
  const y = ops.add(ops.mul(turning!, cos), ops.mul(crossed, sin));
  return { x: joined(ops, [y, ...rest], 3), bySequence };
}

/** Rows for each place, to broadcast over heads. */
function atPlaces(
  ops: Ops,
  table: string,
  { positions, bySequence }: { positions: string | undefined; bySequence: boolean },
): string {
  const rows = positions === undefined ? table : ops.op("Gather", [table, positions], { axis: 0 });
  const [batch, sequence, dim] = ops.shape(rows) as [number, number, number];
  return ops.reshape(rows, bySequence ? [batch, sequence, 1, dim] : [batch, 1, sequence, dim]);
}

/** Values for a pair's first and second member, placed as the pairs are. */
function paired(ops: Ops, [first, second]: readonly [string, string], interleaved: boolean): string {
  const shape = ops.shape(first);
  if (!interleaved) return joined(ops, [first, second], shape.length - 1);
  const columns = [first, second].map((x) => ops.reshape(x, [...shape, 1]));
  return ops.reshape(joined(ops, columns, shape.length), shape.with(-1, 2 * shape.at(-1)!));
}

/** Each pair's members exchanged. */
function swappedPairs(ops: Ops, x: string, interleaved: boolean): string {
  const shape = ops.shape(x);
  const half = shape[3]! / 2;
  // Rank 3 at most where pairs lie side by side: engines copy low ranks faster.
  const flat = interleaved ? ops.reshape(x, [shape[0]! * shape[1]! * shape[2]! * half, 2]) : x;
  const axis = interleaved ? 1 : 3;
  const [a, b] = cutInto(ops, flat, { axis, sizes: interleaved ? [1, 1] : [half, half] });
  return ops.reshape(joined(ops, [b!, a!], axis), shape);
}

/** Cuts rank 3 into heads where a node has it so, turns, and gives back the shape it came in. */
export function turnedInPlace(at: Site, ops: Ops, { heads, turns }: { heads: number; turns: Turns }): string {
  const shape = at.shape(0);
  const x = at.input(0);
  const [batch, sequence, hidden] = shape as [number, number, number];
  const stack: Stack =
    shape.length === 4
      ? { x, bySequence: false }
      : { x: ops.reshape(x, [batch, sequence, heads, hidden / heads]), bySequence: true };
  return ops.reshape(rotated(ops, stack, turns).x, shape);
}

/**
 * X `[batch, heads, sequence, size]` or `[batch, sequence, hidden]`. cos_cache and sin_cache are
 * `[batch, sequence, width]`, or tables `[positions, width]` with position_ids `[batch, sequence]`; a head
 * turns 2·`width` of its columns (RotaryEmbedding, since version 23).
 */
export const RotaryEmbedding = single((at, ops) => {
  const heads = at.shape(0).length === 4 ? 0 : at.int("num_heads");
  const dim = at.int("rotary_embedding_dim", 0);
  const width = at.shape(1).at(-1)!;
  if (dim > 0 && dim !== 2 * width)
    throw at.fault("bad-input", "columns of cos_cache", { expected: `${dim / 2}`, got: `${width}` });
  const interleaved = at.int("interleaved", 0) !== 0;
  const positions = at.has(3) ? at.input(3) : undefined;
  const turns = { cos: at.input(1), sin: at.input(2), interleaved, positions };
  return turnedInPlace(at, ops, { heads, turns });
});
