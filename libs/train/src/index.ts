// biome-ignore-all assist/source/organizeImports: what users may rely on stands first, above the line.

// For users.
export { type BatchPlan, batches, type Examples, inOrder } from "./batches.ts";
export { type Evaluated, type EvaluateOptions, evaluate, type FitOptions, type Fitted, fit } from "./fit.ts";
export {
  type AdagradOptions,
  type AdamWOptions,
  adagrad,
  adamW,
  chain,
  clipNorm,
  clipValue,
  type GradientRule,
  type Optimiser,
  proximal,
  type Rate,
  type SgdOptions,
  sgd,
} from "./optimiser.ts";
export {
  type Controls,
  controlled,
  type LocalWork,
  nextControl,
  nextServerControl,
} from "./scaffold.ts";
export { type Course, cosine, linear, type Schedule, stepwise, warmUp } from "./schedule.ts";
