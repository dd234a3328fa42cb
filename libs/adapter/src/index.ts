// biome-ignore-all assist/source/organizeImports: what users may rely on stands first, above the line.

// For users: what is trained, and where it stands in a graph.
export type { AdapterSpec, ResolvedAdapter } from "./spec.ts";
export { resolve, type ResolveOptions } from "./resolve.ts";
export { initialAdapter } from "./initial.ts";
export { inject } from "./inject.ts";
// In and out of a file.
export { type MergeOptions, type Merged, merge, mergeFiles, mergeReport } from "./merge.ts";
export { type Unmerged, unmerge } from "./unmerge.ts";
export { attach, attachedBase, attachedFeeds, detach, emptyFeeds } from "./attach.ts";
// Other people's formats.
export { fromPeft, type Loaded, type PeftFiles, toPeft } from "./formats/peft.ts";
export { type BindOptions, bind, unbind, type UnbindOptions } from "./formats/peft-bind.ts";
export { type PeftAdapter, readBare, readPeft, writePeft } from "./formats/peft-adapter.ts";
export { fromGguf, toGguf } from "./formats/gguf-lora.ts";
export { fromOnnxAdapter, toAttachedOnnxAdapter, toOnnxAdapter } from "./formats/onnx-adapter-lora.ts";
export { formatOf } from "./formats/format.ts";
export { readSafetensors, readTensors, writeSafetensors, writeTensors } from "./formats/safetensors.ts";

// For neighbours: import the file, not this index.
export { activeTensors, type Method } from "./method.ts";
export { offerOf } from "./resolve.ts";
