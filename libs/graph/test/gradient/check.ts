import { expect } from "vitest";
import { differentiate } from "../../src/differentiate.ts";
import type { Tensor } from "../../src/ir.ts";
import { tensorOf } from "../../src/tensor.ts";
import { apart, build, type Case, measure } from "./measure.ts";
import { run64 } from "./twin.ts";

export { type Case, type Input, numericGradient } from "./measure.ts";

export const int64 = (shape: readonly number[], values: readonly number[]): Tensor =>
  tensorOf("int64", shape, values);
export const bool = (shape: readonly number[], values: readonly number[]): Tensor =>
  tensorOf("bool", shape, values);

/** Float32 on either engine against float64; the rule itself, in float64, is held to 1e-6. */
const TOLERANCE = 1e-4;

/** The rule against central differences in float64, then the same graph in float32 on both engines. */
export async function checkGradient(test: Case): Promise<void> {
  const errors = await measure(test);
  const what = `${told(test)}: ${JSON.stringify(errors)}`;
  expect(errors.rule, what).toBeLessThanOrEqual(1e-6);
  expect(errors.gradient, what).toBeLessThanOrEqual(TOLERANCE);
  expect(errors.engines, what).toBeLessThanOrEqual(TOLERANCE);
}

export function told(test: Case): string {
  return JSON.stringify(test, (_, value) => (typeof value === "bigint" ? Number(value) : value));
}

/**
 * The derived gradient of Σ op(x) itself at the first input, for values that central differences cannot see.
 */
export function gradientOf(test: Case): number[] {
  const { graph, feeds, wrt } = build({ ...test, uniform: true }, "float64");
  const results = run64(differentiate(graph, { loss: "loss", wrt }), feeds);
  return Array.from(results.get(`grad.${wrt[0]}`)!.data as Float64Array);
}

export type Closeness = { readonly tolerance: number; readonly what: string };

/** |got − wanted| ≤ tolerance · max(1, |wanted|), everywhere; NaN is close to nothing. */
export function close(got: Tensor, wanted: readonly number[], { tolerance, what }: Closeness): void {
  expect(apart(got, wanted), what).toBeLessThanOrEqual(tolerance);
}
