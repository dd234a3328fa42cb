/** TUTTI_TEST=nightly: whatever is left out or cut short by day is done in full. */
export const NIGHTLY = process.env.TUTTI_TEST === "nightly";

/**
 * How often a property is tried: `usual` keeps a run of all tests within minutes; at night each is tried
 * ten times as often, to find what is rare.
 */
export const runs = (usual: number): number => (NIGHTLY ? 10 * usual : usual);
