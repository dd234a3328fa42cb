import type { Node } from "../ir.ts";
import { operators } from "../operators.ts";
import * as activation from "./activation.ts";
import type { Expansion } from "./rule.ts";

/** Operators of the standard domain that we can say in simpler ones. */
const { QuickGelu, ...standard } = activation;
const STANDARD: ReadonlyMap<string, Expansion> = operators(standard);

/** onnxruntime's own operators (com.microsoft), as its optimiser writes them. */
const MICROSOFT: ReadonlyMap<string, Expansion> = operators({ QuickGelu });

/** The expansion of a node's operator, if we have one. */
export function expansionOf({ domain, op }: Pick<Node, "domain" | "op">): Expansion | undefined {
  return domain === "" ? STANDARD.get(op) : domain === "com.microsoft" ? MICROSOFT.get(op) : undefined;
}
