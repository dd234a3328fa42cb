import type { Node } from "../ir.ts";
import * as convolution from "./convolution.ts";
import * as elementwise from "./elementwise.ts";
import * as indexing from "./indexing.ts";
import * as linear from "./linear.ts";
import * as normalise from "./normalise.ts";
import * as pool from "./pool.ts";
import * as reduce from "./reduce.ts";
import type { Rule } from "./rule.ts";
import * as shape from "./shape.ts";

const WINDOWED: readonly object[] = [convolution, pool];
const FAMILIES = [...WINDOWED, elementwise, indexing, linear, normalise, reduce, shape];

/** What the files export under an ONNX name; operators alone begin with a capital. */
const STANDARD: ReadonlyMap<string, Rule> = new Map(
  FAMILIES.flatMap((family) => Object.entries(family) as [string, Rule][]).filter(([name]) =>
    /^[A-Z]/.test(name),
  ),
);

/** onnxruntime's own operators, as its optimiser writes them. Their gradients are in standard ones. */
const MICROSOFT: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ["Gelu", elementwise.Gelu],
  ["QuickGelu", elementwise.QuickGelu],
]);

/** The rule of an operator that can be differentiated, by domain ("" is the standard) and ONNX name. */
export function ruleOf({ domain, op }: Pick<Node, "domain" | "op">): Rule | undefined {
  return domain === "" ? STANDARD.get(op) : domain === "com.microsoft" ? MICROSOFT.get(op) : undefined;
}
