/** Seeds that once found something in our own code, and what it was; each must be quiet for good. */
export const CASES: readonly { readonly seed: number; readonly found: string }[] = [];
