import type { Node } from "../ir.ts";
import { operators } from "../operators.ts";
import * as convolution from "./convolution.ts";
import * as elementwise from "./elementwise.ts";
import * as indexing from "./indexing.ts";
import * as linear from "./linear.ts";
import * as normalise from "./normalise.ts";
import * as pad from "./pad.ts";
import * as pool from "./pool.ts";
import * as quantise from "./quantise.ts";
import * as reduce from "./reduce.ts";
import type { GradientRule } from "./rule.ts";
import * as scatter from "./scatter.ts";
import * as shape from "./shape.ts";

/** Operators of the standard domain: what these files export under an operator's own, capitalised name. */
const STANDARD: ReadonlyMap<string, GradientRule> = operators(
  convolution,
  elementwise,
  indexing,
  linear,
  normalise,
  pad,
  pool,
  quantise,
  reduce,
  scatter,
  shape,
);

/** onnxruntime's own operators, as its optimiser writes them. Their gradients are in standard ones. */
const MICROSOFT: ReadonlyMap<string, GradientRule> = new Map<string, GradientRule>([
  ["Gelu", elementwise.Gelu],
]);

/** The rule of an operator that can be differentiated, by domain ("" is the standard) and ONNX name. */
export function ruleOf({ domain, op }: Pick<Node, "domain" | "op">): GradientRule | undefined {
  return domain === "" ? STANDARD.get(op) : domain === "com.microsoft" ? MICROSOFT.get(op) : undefined;
}

/** Every operator with a rule, by domain. */
export function ruled(): readonly Pick<Node, "domain" | "op">[] {
  return [
    ...[...STANDARD.keys()].map((op) => ({ domain: "", op })),
    ...[...MICROSOFT.keys()].map((op) => ({ domain: "com.microsoft", op })),
  ];
}
