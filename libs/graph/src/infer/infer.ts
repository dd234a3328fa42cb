import { Fault } from "@tutti/foundation/fault";
import { type Node, type Static, sizeOf } from "../ir.ts";
import { LIMITS } from "../limits.ts";
import { operators } from "../operators.ts";
import { describe, type Known, Site } from "../site.ts";
import * as attention from "./attention.ts";
import * as convolve from "./convolve.ts";
import * as elementwise from "./elementwise.ts";
import * as indexing from "./indexing.ts";
import * as linear from "./linear.ts";
import * as loss from "./loss.ts";
import * as microsoftActivation from "./microsoft/activation.ts";
import * as microsoftAttention from "./microsoft/attention.ts";
import * as microsoftLinear from "./microsoft/linear.ts";
import * as microsoftNormalise from "./microsoft/normalise.ts";
import * as microsoftQuantise from "./microsoft/quantise.ts";
import * as normalise from "./normalise.ts";
import * as quantise from "./quantise.ts";
import * as recurrent from "./recurrent.ts";
import * as reduce from "./reduce.ts";
import * as resize from "./resize.ts";
import type { InferRule } from "./rule.ts";
import * as shape from "./shape.ts";
import { checkSignature } from "./signatures.ts";

/** Operators of the standard domain: what these files export under an operator's own, capitalised name. */
const STANDARD: ReadonlyMap<string, InferRule> = operators(
  attention,
  convolve,
  elementwise,
  indexing,
  linear,
  loss,
  normalise,
  quantise,
  recurrent,
  reduce,
  resize,
  shape,
);

/** onnxruntime's own operators (com.microsoft), as its optimiser writes them. */
const MICROSOFT: ReadonlyMap<string, InferRule> = operators(
  microsoftActivation,
  microsoftAttention,
  microsoftLinear,
  microsoftNormalise,
  microsoftQuantise,
);

const DOMAINS: ReadonlyMap<string, ReadonlyMap<string, InferRule>> = new Map([
  ["", STANDARD],
  ["com.microsoft", MICROSOFT],
]);

/**
 * The dtype and shape of each output of a node, in order; an output the node leaves out may be listed too.
 * Shapes are numbers throughout: sizes were bound before (trace), so no rule has symbols to carry.
 * A Fault names the node for operators we do not know and for inputs that do not fit.
 */
export function inferNode(node: Node, known: Known): readonly Static[] {
  const rule = DOMAINS.get(node.domain)?.get(node.op);
  if (!rule)
    throw new Fault("unsupported", describe(node, known.opset), { expected: "an operator Tutti knows" });
  checkSignature(node, known);
  const statics = rule(new Site(node, known));
  for (const { shape } of statics) {
    // Checked before anyone allocates: shapes may come from the file's own constants (docs/reliability.md,
    // Files from outside).
    const sizes = [...shape, sizeOf(shape)];
    if (sizes.every((size) => Number.isInteger(size) && size >= 0 && size <= LIMITS.elements)) continue;
    const expected = `sizes ≥ 0 and at most ${LIMITS.elements} elements`;
    throw new Fault("bad-input", `${describe(node, known.opset)}: shape`, { expected, got: `[${shape}]` });
  }
  return statics;
}

/** Every operator known, those of the standard first. */
export function knownOperators(): readonly Pick<Node, "op" | "domain">[] {
  return [...DOMAINS].flatMap(([domain, rules]) => [...rules.keys()].map((op) => ({ domain, op })));
}
