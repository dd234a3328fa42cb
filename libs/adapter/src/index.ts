// For users.

// For neighbours: import the file, not this index.
export { attach, attachedBase, attachedFeeds, detach, emptyFeeds } from "./attach.ts";
export { initialAdapter } from "./initial.ts";
export { inject } from "./inject.ts";
export { type Merged, merge, mergeFiles, mergeReport } from "./merge.ts";
export { activeTensors, type Method } from "./method.ts";
export { fromPeft, type Loaded, type PeftFiles, toPeft } from "./peft.ts";
export { resolve } from "./resolve.ts";
export { readSafetensors, readTensors, writeSafetensors, writeTensors } from "./safetensors.ts";
export type { AdapterSpec, ResolvedAdapter } from "./spec.ts";
export { type Unmerged, unmerge } from "./unmerge.ts";
