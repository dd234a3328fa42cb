import * as convolution from "./convolution.ts";
import * as elementwise from "./elementwise.ts";
import * as index from "./index.ts";
import * as linear from "./linear.ts";
import * as normalise from "./normalise.ts";
import * as pool from "./pool.ts";
import * as reduce from "./reduce.ts";
import type { Rule } from "./rule.ts";
import * as shape from "./shape.ts";

const FAMILIES: readonly object[] = [convolution, elementwise, index, linear, normalise, pool, reduce, shape];

/** Operators of the standard domain that can be differentiated: what the files export under an ONNX name. */
export const RULES: ReadonlyMap<string, Rule> = new Map(
  FAMILIES.flatMap((family) => Object.entries(family) as [string, Rule][]).filter(([name]) =>
    /^[A-Z]/.test(name),
  ),
);
