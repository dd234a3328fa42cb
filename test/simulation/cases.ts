/** Seeds that once found something in our own code, and what it was; each must be quiet for good. */
export const CASES: readonly { readonly seed: number; readonly found: string }[] = [
  { seed: 644, found: "a round is refused by who verifies it, since two of its cohorts have the same sum" },
];
