// For neighbours inside the house.
export { type BatchPlan, batches, type Examples, inOrder } from "./batches.ts";
export { type Evaluated, type EvaluateOptions, evaluate, type FitOptions, type Fitted, fit } from "./fit.ts";
export {
  type AdamWOptions,
  adamW,
  chain,
  clipNorm,
  type GradientRule,
  type Optimiser,
  proximal,
  type Rate,
  type SgdOptions,
  sgd,
} from "./optimiser.ts";
