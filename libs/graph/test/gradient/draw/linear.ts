import fc from "fast-check";
import { tensorOf } from "../../../src/tensor.ts";
import {
  activated,
  bit,
  broadcasting,
  type Draw,
  type Draws,
  dims,
  fill,
  float,
  ints,
  oneOf,
  size,
} from "./draw.ts";

/** Stacks that broadcast, and vectors on either side. */
const matmul: Draw = fc
  .tuple(broadcasting(2, dims(0, 2)), fc.tuple(size, size, size), oneOf("none", "none", "left", "right"))
  .map(([[a, b], [m, k, n], vector]) => ({
    inputs: [
      { shape: vector === "left" ? [k] : [...a!, m, k] },
      { shape: vector === "right" ? [k] : [...b!, k, n] },
    ],
  }));

const gemm: Draw = fc
  .tuple(
    fc.tuple(size, size, size),
    fc.record({ transA: bit, transB: bit }),
    oneOf("none", "scalar", "row", "column", "full"),
    oneOf(1, 0.5),
  )
  .map(([[m, k, n], turns, kind, factor]) => {
    const c = { none: undefined, scalar: [], row: [n], column: [m, 1], full: [m, n] }[kind];
    return {
      inputs: [
        { shape: turns.transA ? [k, m] : [m, k] },
        { shape: turns.transB ? [n, k] : [k, n] },
        ...(c ? [{ shape: c }] : []),
      ],
      attributes: { ...turns, alpha: float(factor), beta: float(2 * factor) },
    };
  });

const EQUATIONS = [
  "ij,jk->ik",
  "bij,bkj->bik",
  "bhqd,bhkd->bhqk",
  "i,j->ij",
  "ij->ji",
  "ii->i",
  "bii->bi",
].concat(["bi,bi->b", "ij,jk,kb->ib", "...ij,...jk->...ik", "ij,jk", "iji,j->i", "ij->", "bd,nd->bn"]);

/** One size per letter; an ellipsis stands for two axes. */
const einsum: Draw = fc.tuple(oneOf(...EQUATIONS), fc.infiniteStream(size)).map(([equation, sizes]) => {
  const known = new Map<string, number>();
  const sizeOf = (letter: string) => {
    const found = known.get(letter) ?? (sizes.next().value as number);
    known.set(letter, found);
    return found;
  };
  const terms = equation.replaceAll("...", "AB").split("->")[0]!.split(",");
  return { inputs: terms.map((term) => ({ shape: [...term].map(sizeOf) })), attributes: { equation } };
});

/** Scores `[N, C, …]`, labels with an ignored one among them, weights or none, each reduction. */
const loss = (outputs: number): Draw =>
  fc
    .tuple(
      size,
      fc.integer({ min: 2, max: 4 }),
      dims(0, 1),
      oneOf("mean", "sum", "none"),
      fc.boolean(),
      fc.boolean(),
    )
    .chain(([batch, classes, rest, reduction, weighted, ignoring]) =>
      fill([batch, ...rest], 0, classes - 1).map((labels) => ({
        inputs: [
          { shape: [batch, classes, ...rest] },
          // The first label stays, so that a mean is never one of nothing.
          ints([batch, ...rest], ignoring ? labels.map((label, i) => (i === 1 ? -1 : label)) : labels, true),
          ...(weighted ? [{ shape: [classes], range: [0.5, 1.5] as const, frozen: true }] : []),
        ],
        attributes: { reduction, ...(ignoring ? { ignore_index: -1 } : {}) },
        outputs,
      })),
    );

export const LINEAR: Draws = {
  MatMul: matmul,
  Gemm: gemm,
  Einsum: einsum,
  SoftmaxCrossEntropyLoss: fc.oneof(loss(1), loss(2)),
  NegativeLogLikelihoodLoss: loss(1),
};

const fused: Draw = fc
  .tuple(fc.tuple(size, size, size, size), fc.record({ transA: bit, transB: bit }), bit)
  .map(([[stack, m, k, n], turns, batched]) => {
    const shape = (rows: number, columns: number, turn: number) => {
      const [a, b] = turn ? [columns, rows] : [rows, columns];
      return batched ? [a, stack, b] : [stack, a, b];
    };
    return {
      inputs: [{ shape: shape(m, k, turns.transA) }, { shape: shape(k, n, turns.transB) }],
      attributes: { ...turns, transBatchA: batched, transBatchB: batched, alpha: float(0.5) },
    };
  });

const plainFused: Draw = fc
  .tuple(fc.tuple(size, size, size), fc.record({ transA: bit, transB: bit }))
  .map(([[m, k, n], turns]) => ({
    inputs: [{ shape: turns.transA ? [k, m] : [m, k] }, { shape: turns.transB ? [n, k] : [k, n] }],
    attributes: { ...turns, alpha: float(0.5) },
  }));

/** A in float against 4-bit levels that stay constant. */
const bits: Draw = fc.tuple(size, size).chain(([rows, columns]) =>
  fill([columns, 1, 8], 0, 255).map((levels) => ({
    inputs: [
      { shape: [rows, 16] },
      { tensor: tensorOf("uint8", [columns, 1, 8], levels) },
      { shape: [columns], range: [0.01, 0.05] as const, frozen: true },
    ],
    attributes: { K: 16, N: columns, bits: 4, block_size: 16 },
  })),
);

export const MICROSOFT_LINEAR: Draws = {
  FusedMatMul: fused,
  TransposeMatMul: plainFused,
  FusedGemm: activated(gemm),
  MatMulNBits: bits,
};
