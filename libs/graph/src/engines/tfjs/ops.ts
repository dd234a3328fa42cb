import { Fault } from "@tutti/foundation/fault";
import type { Node } from "../../ir.ts";
import { operators } from "../../operators.ts";
import { describe } from "../../site.ts";
import * as convolution from "./convolution.ts";
import * as elementwise from "./elementwise.ts";
import * as indexing from "./indexing.ts";
import * as linear from "./linear.ts";
import * as normalise from "./normalise.ts";
import type { Operator, OpSite } from "./op-site.ts";
import * as order from "./order.ts";
import * as pad from "./pad.ts";
import * as pool from "./pool.ts";
import * as reduce from "./reduce.ts";
import * as scatter from "./scatter.ts";
import * as shape from "./shape.ts";

/** Every operator the engine runs, by its name in the standard domain. */
export const OPERATORS = operators<Operator>(
  elementwise,
  linear,
  shape,
  reduce,
  normalise,
  indexing,
  scatter,
  order,
  convolution,
  pool,
  pad,
);

/** Whether the engine has a kernel of its own for an operator; others run as their expansion. */
export function hasKernel({ domain, op }: Pick<Node, "domain" | "op">): boolean {
  return domain === "" && OPERATORS.has(op);
}

/** The operator of a node; an unknown one is a Fault("unsupported") naming node, operator, domain and set. */
export function operatorOf(site: OpSite): Operator {
  const { node, opset } = site;
  const found = node.domain === "" || node.domain === "ai.onnx" ? OPERATORS.get(node.op) : undefined;
  if (found) return found;
  throw new Fault("unsupported", describe(node, opset), {
    expected: "an operator of the tfjs engine",
    got: `${node.op} of domain ${node.domain || "ai.onnx"}`,
    todo: "Use the onnxruntime engine, or export the model with simpler operators",
  });
}
