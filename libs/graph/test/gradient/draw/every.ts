import fc from "fast-check";
import { expandable } from "../../../src/expand/rules.ts";
import { ruled } from "../../../src/gradient/rules.ts";
import type { Case } from "../measure.ts";
import type { Draw, Draws } from "./draw.ts";
import { ELEMENTWISE, MICROSOFT_ELEMENTWISE } from "./elementwise.ts";
import { INDEXING, MICROSOFT_INDEXING } from "./indexing.ts";
import { LINEAR, MICROSOFT_LINEAR } from "./linear.ts";
import { MICROSOFT_REDUCE, REDUCE } from "./reduce.ts";
import { MICROSOFT_SEQUENCE, SEQUENCE } from "./sequence.ts";
import { SHAPE } from "./shape.ts";
import { MICROSOFT_WINDOW, WINDOW } from "./window.ts";

const STANDARD: Draws = {
  ...ELEMENTWISE,
  ...REDUCE,
  ...WINDOW,
  ...INDEXING,
  ...SHAPE,
  ...LINEAR,
  ...SEQUENCE,
};
const MICROSOFT: Draws = {
  ...MICROSOFT_ELEMENTWISE,
  ...MICROSOFT_REDUCE,
  ...MICROSOFT_WINDOW,
  ...MICROSOFT_INDEXING,
  ...MICROSOFT_LINEAR,
  ...MICROSOFT_SEQUENCE,
};

/**
 * Rounding is flat wherever it is not a step, so central differences say 0 of what is quantised; training
 * passes gradients straight through (Bengio et al. 2013), which quantise.test.ts checks.
 */
const STRAIGHT_THROUGH: ReadonlySet<string> = new Set([
  ...["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"],
  ...["QLinearMatMul", "QLinearConv"],
  ...["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm"].map(
    microsoft,
  ),
  ...["Add", "Mul", "Concat", "GlobalAveragePool", "LeakyRelu", "Sigmoid"].map((op) =>
    microsoft(`QLinear${op}`),
  ),
]);

function microsoft(op: string): string {
  return `com.microsoft::${op}`;
}

const DRAWS: ReadonlyMap<string, Draw> = new Map([
  ...Object.entries(STANDARD),
  ...Object.entries(MICROSOFT).map(([op, draw]) => [microsoft(op), draw] as const),
]);

/** Every operator that a float gradient passes, by rule or by expansion: what the tables hold. */
export function differentiable(): readonly string[] {
  const named = [...ruled(), ...expandable()].map(({ domain, op }) => (domain === "" ? op : microsoft(op)));
  return [...new Set(named)].filter((op) => !STRAIGHT_THROUGH.has(op)).sort();
}

/** Operators that have random cases. */
export function drawable(): readonly string[] {
  return [...DRAWS.keys()].sort();
}

/** Random cases of an operator. */
export function casesOf(op: string): fc.Arbitrary<Case> {
  return fc.tuple(DRAWS.get(op)!, fc.nat(100_000)).map(([drawn, seed]) => ({ op, seed, ...drawn }));
}
