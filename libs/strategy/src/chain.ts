import type { Rule } from "./types.ts";

/** Rules one after another: each one's step is the next one's mean. Their states lie end to end. */
export function chain(...rules: readonly Rule[]): Rule {
  return {
    begin: (length) => rules.flatMap((rule) => rule.begin(length)),
    apply: (mean, held) => {
      let step = mean;
      let at = 0;
      const next = rules.flatMap((rule) => {
        const own = rule.begin(0).length;
        const [moved, kept] = rule.apply(step, held.slice(at, at + own));
        step = moved;
        at += own;
        return kept;
      });
      return [step, next];
    },
  };
}
