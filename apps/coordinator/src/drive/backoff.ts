import { asFault, type FaultCode } from "@tutti/foundation/fault";

const FIRST_MS = 250;
const LONGEST_MS = 5_000;

/** How long to wait after so many failures in a row (from 1). */
export function backOffMs(failures: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 10));
}

/** What may be otherwise the next time. */
const PASSING: ReadonlySet<FaultCode> = new Set<FaultCode>(["storage", "unavailable"]);

export function isPassing(error: unknown): boolean {
  return PASSING.has(asFault(error).code);
}
