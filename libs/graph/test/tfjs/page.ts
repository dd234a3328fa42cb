import { hasKernel } from "../../src/engines/tfjs/ops.ts";
import { evaluates } from "../../src/evaluate/evaluate.ts";
import { expansionOf } from "../../src/expand/rules.ts";
import { noGradient } from "../../src/gradient/elementwise.ts";
import { ruleOf } from "../../src/gradient/rules.ts";
import { knownOperators } from "../../src/infer/infer.ts";
import type { Node } from "../../src/ir.ts";

/*
 * docs/operators.md is made from the library's own tables and from counts of the standard's cases. The claim
 * graph/standard writes it; a test holds it to the tables.
 */

type Operator = Pick<Node, "op" | "domain">;

/** What the tables say of an operator: how tfjs runs it and where its gradient comes from. */
export type Ways = { readonly name: string; readonly runs: string; readonly gradient: string };

/** Cases of the standard that use an operator. */
export type Count = { passed: number; of: number; opsets: Set<number> };

/** Operators without a rule whose results are integers, bools or shapes, or stand still almost everywhere. */
const STILL: ReadonlySet<string> = new Set([
  ...["And", "Or", "Xor", "Not", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"],
  ...["IsInf", "IsNaN", "ArgMax", "ArgMin", "NonZero", "Shape", "Size", "ConstantOfShape"],
  ...["OneHot", "Range", "Hardmax"],
  ...["MatMulInteger", "ConvInteger"],
]);

/** Run by reading and tracing alone, without an entry in the operator tables. */
const TRACED: readonly Operator[] = [
  { domain: "", op: "Constant" },
  { domain: "", op: "If" },
];

/** Every operator known, by name, those of com.microsoft last. */
export function ways(): readonly Ways[] {
  return [...knownOperators(), ...TRACED].map(waysOf).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function waysOf(node: Operator): Ways {
  const name = node.domain ? `${node.domain}.${node.op}` : node.op;
  return { name, runs: runsOf(node), gradient: gradientOf(node) };
}

function runsOf(node: Operator): string {
  if (hasKernel(node)) return "kernel";
  if (expansionOf(node)) return "expansion";
  return evaluates(node) || TRACED.some(({ op }) => op === node.op) ? "before the run" : "not";
}

function gradientOf(node: Operator): string {
  const rule = ruleOf(node);
  if (rule) return rule === noGradient ? "nothing flows" : "rule";
  if (STILL.has(node.op) || TRACED.some(({ op }) => op === node.op)) return "nothing flows";
  return expansionOf(node) ? "expansion" : "none yet";
}

/** The page. `counts` are by operator name; `summary` says what the run behind them measured. */
export function page(counts: ReadonlyMap<string, Count>, summary: string): string {
  const rows = ways().map(({ name, runs, gradient }) => {
    const count = counts.get(name);
    const cases = count ? `${count.passed} of ${count.of}` : "";
    return `| ${name} | ${runs} | ${gradient} | ${cases} | ${count ? range(count.opsets) : ""} |`;
  });
  return [HEAD, summary, "", TABLE, ...rows, ""].join("\n");
}

/** Names and ways as a page has them. */
export function readPage(text: string): readonly Ways[] {
  const rows = text.split("\n").filter((line) => line.startsWith("| "));
  return rows.slice(2).map((row) => {
    const [name, runs, gradient] = row.split("|").slice(1, 4);
    return { name: name!.trim(), runs: runs!.trim(), gradient: gradient!.trim() };
  });
}

/** The least and the greatest. */
function range(values: ReadonlySet<number>): string {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return values.size === 0 ? "" : least === most ? `${least}` : `${least}–${most}`;
}

const HEAD = `# Operators

This page is made: \`CLAIM_WRITE=1 npm run -s claim -- graph/standard\` writes it from the library's tables.

An operator runs on the tfjs engine as a _kernel_ of its own, or as its _expansion_ into simpler operators,
or _before the run_, when tracing evaluates what depends on constants and shapes alone. (The onnxruntime
engine runs whatever onnxruntime does.) Its gradient is a _rule_ of its own or the gradient of its expansion;
_nothing flows_ through results that are integers, bools or shapes, or that stand still almost everywhere.
Cases are those of the ONNX standard that use the operator and that onnxruntime itself passes; operator sets
are those of the models among them that pass.
`;

const TABLE = `| operator | runs as | gradient | cases passed | operator sets |
| --- | --- | --- | --- | --- |`;
