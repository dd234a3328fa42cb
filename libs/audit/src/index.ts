export { Checker, checkChain, type Head, hashIn, lineAfter, type Older, startOf } from "./chain.ts";
export type { Detail, Entry, Note } from "./entry.ts";
export { REMOVED, type Removal, removalNote, removalOf } from "./removal.ts";
