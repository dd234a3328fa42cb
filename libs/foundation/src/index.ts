// For users.

// For neighbours: import the file, not this index.
export type { Clock } from "./clock.ts";
export { Fault, type FaultCode, type FaultDetail } from "./fault.ts";
export { platformRandom, type SecretRandom, type SeededRandom, seededRandom } from "./random.ts";
