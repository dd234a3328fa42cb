export { Checker, checkChain, type Head, lineAfter, startOf } from "./chain.ts";
export type { Detail, Entry, Note } from "./entry.ts";
