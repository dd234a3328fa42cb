import type { Node } from "../ir.ts";
import { operators } from "../operators.ts";
import * as activation from "./activation.ts";
import * as attention from "./attention.ts";
import * as einsum from "./einsum.ts";
import * as loss from "./loss.ts";
import * as microsoftActivation from "./microsoft/activation.ts";
import * as microsoftAttention from "./microsoft/attention.ts";
import * as microsoftGroupQuery from "./microsoft/group-query.ts";
import * as microsoftLinear from "./microsoft/linear.ts";
import * as microsoftNormalise from "./microsoft/normalise.ts";
import * as microsoftQuantise from "./microsoft/quantise.ts";
import * as normalise from "./normalise.ts";
import * as pool from "./pool.ts";
import * as quantise from "./quantise.ts";
import * as recurrent from "./recurrent.ts";
import * as resize from "./resize.ts";
import * as rotary from "./rotary.ts";
import type { Expansion } from "./rule.ts";

/** Operators of the standard domain that we can say in simpler ones. */
const STANDARD: ReadonlyMap<string, Expansion> = operators(
  activation,
  attention,
  einsum,
  loss,
  normalise,
  pool,
  quantise,
  recurrent,
  resize,
  rotary,
);

/** onnxruntime's own operators (com.microsoft), as its optimiser writes them. */
const MICROSOFT: ReadonlyMap<string, Expansion> = operators(
  microsoftActivation,
  microsoftAttention,
  microsoftGroupQuery,
  microsoftLinear,
  microsoftNormalise,
  microsoftQuantise,
);

/** The expansion of a node's operator, if we have one. */
export function expansionOf({ domain, op }: Pick<Node, "domain" | "op">): Expansion | undefined {
  return domain === "" ? STANDARD.get(op) : domain === "com.microsoft" ? MICROSOFT.get(op) : undefined;
}

/** Every operator with an expansion, by domain. */
export function expandable(): readonly Pick<Node, "domain" | "op">[] {
  return [
    ...[...STANDARD.keys()].map((op) => ({ domain: "", op })),
    ...[...MICROSOFT.keys()].map((op) => ({ domain: "com.microsoft", op })),
  ];
}
