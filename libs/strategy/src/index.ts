// For neighbours: import the file, not this index.
export { type AdamOptions, adam } from "./adam.ts";
export { chain } from "./chain.ts";
export { type CohortMean, type Combine, checkCohortNorm, combine } from "./combine.ts";
export { momentum } from "./momentum.ts";
export { type Rule, ruleOf, type State, type StoredRule } from "./rule.ts";
export { scale } from "./scale.ts";
export { loadState, saveState, stored } from "./state.ts";
export { type StepOptions, type Stepped, serverStep } from "./step.ts";
