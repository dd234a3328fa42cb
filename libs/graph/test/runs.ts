/**
 * How often a property is tried: `usual` keeps a run of all tests within minutes; TUTTI_TEST=nightly looks
 * ten times as long for rare counterexamples.
 */
export const runs = (usual: number): number => (process.env.TUTTI_TEST === "nightly" ? 10 * usual : usual);
