// For users: plan a mechanism, count what it spends.
export {
  composeRdp,
  epsilonOf,
  epsilonOfRho,
  type Mechanism,
  noiseFor,
  ORDERS,
  rdpOf,
  rhoOf,
} from "./accountant.ts";

// For neighbours: import the file, not this index.
export { type ClipRule, nextClip, withinClip } from "./adaptive-clip.ts";
export { discreteGaussian, MAX_SIGMA } from "./discrete-gaussian.ts";
export { centralNoise, type PrivatiseOptions, privatise, recover } from "./distributed.ts";
export { type Grid, type GridOptions, gridFor, gridOf, MAX_BITS, type Mode, realised } from "./grid.ts";
export { ANY_RUN, type Budget, type Entry, formatEntry, parseLedger, permitSpend, spent } from "./ledger.ts";
export { boundedSlots, joinVector, splitVector, type VectorOptions } from "./vector.ts";
