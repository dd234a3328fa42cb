import fc from "fast-check";
import { tensorOf } from "../../../src/tensor.ts";
import type { Input } from "../measure.ts";
import { bit, type Draw, type Draws, fill, float, int32, ints, oneOf } from "./draw.ts";

/** Every optional input there or not; all outputs. */
function recurrent(gates: number, outputs: number): Draw {
  const options = fc.record({
    direction: oneOf("forward", "reverse", "bidirectional"),
    steps: oneOf(1, 2, 3),
    bias: fc.boolean(),
    lengths: fc.boolean(),
    start: fc.boolean(),
    reset: bit,
  });
  return options.map(({ direction, steps, bias, lengths, start, reset }) => {
    const [batch, width, hidden, directions] = [2, 2, 2, direction === "bidirectional" ? 2 : 1];
    const states: Input = start ? { shape: [directions, batch, hidden] } : undefined;
    const range = [-1, 1] as const;
    return {
      inputs: [
        { shape: [steps, batch, width] },
        { shape: [directions, gates * hidden, width] },
        { shape: [directions, gates * hidden, hidden] },
        bias ? { shape: [directions, 2 * gates * hidden] } : undefined,
        lengths ? { tensor: int32([batch], [steps, 1]) } : undefined,
        states,
        ...(gates === 4 ? [states, bias ? { shape: [directions, 3 * hidden] } : undefined] : []),
      ],
      attributes: { hidden_size: hidden, direction, ...(gates === 3 ? { linear_before_reset: reset } : {}) },
      outputs,
      range,
    };
  });
}

/** Ranks 3 and 4, grouped queries, masks of both kinds, causal, capped. */
const attention: Draw = fc
  .record({
    rank: oneOf(3, 4),
    groups: oneOf(1, 2),
    keys: oneOf(2, 3),
    mask: oneOf("none", "bool", "float"),
    causal: bit,
    softcap: oneOf(0, 1.5),
    past: fc.boolean(),
    seen: fill([6], 0, 1),
  })
  .map(({ rank, groups, keys, mask, causal, softcap, past, seen }) => {
    const [batch, shared, queries, width] = [1, 1, 2, 2];
    const heads = shared * groups;
    const stack = (count: number, length: number) =>
      rank === 4 ? [batch, count, length, width] : [batch, length, count * width];
    const total = keys + (past ? 1 : 0);
    const masks: Record<string, Input> = {
      none: undefined,
      float: { shape: [queries, total] },
      // The first key is always seen: a row of nothing has tests of its own.
      bool: {
        tensor: tensorOf(
          "bool",
          [queries, total],
          Array.from({ length: queries * total }, (_, i) => (i % total === 0 ? 1 : seen[i % 6]!)),
        ),
      },
    };
    const cache: Input = past ? { shape: [batch, shared, 1, width] } : undefined;
    return {
      inputs: [
        ...[stack(heads, queries), stack(shared, keys), stack(shared, keys)].map((shape) => ({ shape })),
        masks[mask],
        cache,
        cache,
      ],
      attributes: {
        is_causal: causal,
        softcap: float(softcap),
        ...(rank === 3 ? { q_num_heads: heads, kv_num_heads: shared } : {}),
      },
      outputs: past ? 3 : 1,
      opset: 23,
    };
  });

const rotary: Draw = fc
  .tuple(bit, oneOf(0, 2), oneOf(3, 4), fill([2], 0, 3))
  .map(([interleaved, part, rank, rows]) => {
    const table = { shape: [4, part === 0 ? 2 : 1] };
    return {
      inputs: [{ shape: rank === 4 ? [1, 2, 2, 4] : [1, 2, 8] }, table, table, ints([1, 2], rows, true)],
      attributes: { interleaved, rotary_embedding_dim: part, num_heads: 2 },
      opset: 23,
    };
  });

export const SEQUENCE: Draws = {
  RNN: recurrent(1, 2),
  GRU: recurrent(3, 2),
  LSTM: recurrent(4, 3),
  Attention: attention,
  RotaryEmbedding: rotary,
};

/** Packed weights, a raw mask or none, one direction or both. */
const packed: Draw = fc
  .tuple(bit, fc.boolean(), fill([1, 3], 0, 1))
  .map(([unidirectional, masked, seen]) => ({
    inputs: [
      { shape: [1, 3, 3] },
      { shape: [3, 12] },
      { shape: [12] },
      ...(masked ? [{ tensor: int32([1, 3], [1, ...seen.slice(1)]) }] : []),
    ],
    attributes: { num_heads: 2, unidirectional },
  }));

const multiHead: Draw = fc.tuple(fc.boolean(), fc.boolean(), bit).map(([bias, offset, unidirectional]) => ({
  inputs: [
    { shape: [1, 2, 4] },
    { shape: [1, 2, 4] },
    { shape: [1, 2, 4] },
    bias ? { shape: [12] } : undefined,
    undefined,
    offset ? { shape: [1, 1, 2, 2] } : undefined,
  ],
  attributes: { num_heads: 2, unidirectional },
}));

/** The prompt: nothing before it, keys as long as the queries. */
const grouped: Draw = fc.tuple(bit, oneOf(0, 1.5)).map(([turned, softcap]) => {
  const [queries, width] = [3, 4];
  const table: Input = turned ? { shape: [4, width / 2] } : undefined;
  return {
    inputs: [
      { shape: [1, queries, 2 * width] },
      { shape: [1, queries, width] },
      { shape: [1, queries, width] },
      undefined,
      undefined,
      { tensor: int32([1], [queries - 1]) },
      { tensor: int32([1], [queries]) },
      table,
      table,
    ],
    attributes: { num_heads: 2, kv_num_heads: 1, do_rotary: turned, softcap: float(softcap) },
  };
});

export const MICROSOFT_SEQUENCE: Draws = {
  Attention: packed,
  MultiHeadAttention: multiHead,
  GroupQueryAttention: grouped,
  RotaryEmbedding: fc.tuple(bit, fill([1, 2], 0, 3)).map(([interleaved, rows]) => ({
    inputs: [{ shape: [1, 2, 2, 4] }, ints([1, 2], rows, true), { shape: [4, 2] }, { shape: [4, 2] }],
    attributes: { interleaved },
  })),
};
