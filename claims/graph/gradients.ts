import fc from "fast-check";
import { casesOf, drawable } from "../../libs/graph/test/gradient/draw/every.ts";
import { type Case, type Errors, LIMIT, measure } from "../../libs/graph/test/gradient/measure.ts";
import type { Claim } from "../claim.ts";

const DRAWS = 20;
const SEED = 20261121;

type Worst = { -readonly [Key in keyof Errors]: { error: number; operator: string } };

export const claim: Claim = {
  name: "graph/gradients",
  target:
    "Every operator with a float gradient: numeric check on random shapes, broadcasting and attributes " +
    "included, in float32 within 1e-3 of the gradient's largest element, against float64 central " +
    "differences; gradients on both engines (tfjs/wasm, onnxruntime) within 1e-4 of it, losses within 1e-4 " +
    "of their terms' absolute sum",
  async run(report) {
    const none = () => ({ error: 0, operator: "" });
    const worst: Worst = { rule: none(), gradient: none(), engines: none() };
    const failed: string[] = [];
    const operators = drawable();
    let cases = 0;
    for (const operator of operators) {
      const drawn = fc.sample(casesOf(operator), { numRuns: DRAWS, seed: SEED });
      const met: Errors = await largest(drawn, (it, why) => {
        failed.push(operator);
        report(`${operator}: ${why} in ${told(it)}`);
      });
      cases += drawn.length;
      for (const key of KINDS) if (met[key] > worst[key].error) worst[key] = { error: met[key], operator };
      report(`${operator}: ${KINDS.map((key) => `${key} ${met[key].toExponential(1)}`).join(", ")}`);
    }
    const figures = {
      operators: operators.length,
      cases,
      failed: [...new Set(failed)],
      worstGradientError: shown(worst.gradient),
      worstBetweenEngines: shown(worst.engines),
      worstRuleErrorInFloat64: shown(worst.rule),
    };
    return { figures, holds: failed.length === 0 };
  },
};

const KINDS = ["rule", "gradient", "engines"] as const;

/** The largest errors of an operator's cases; a case beyond a limit, or one that does not run, is told. */
async function largest(cases: readonly Case[], tell: (it: Case, why: string) => void): Promise<Errors> {
  const met: Record<(typeof KINDS)[number], number> = { rule: 0, gradient: 0, engines: 0 };
  for (const it of cases) {
    const errors = await measure(it).catch((error: unknown) => {
      tell(it, String(error));
    });
    if (!errors) continue;
    for (const key of KINDS) {
      met[key] = Math.max(met[key], errors[key]);
      if (!(errors[key] <= LIMIT[key])) tell(it, `${key} ${errors[key].toExponential(1)}`);
    }
  }
  return met;
}

function told(it: Case): string {
  return JSON.stringify(it, (_, value) => (typeof value === "bigint" ? Number(value) : value));
}

function shown({ error, operator }: { error: number; operator: string }): string {
  return `${error.toExponential(1)} (${operator})`;
}
