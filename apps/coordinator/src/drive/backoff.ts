const FIRST_MS = 250;
const LONGEST_MS = 5_000;

/** How long to wait after so many failures in a row (from 1). */
export function backOffMs(failures: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 10));
}
