// For users: what runs on every platform. A device in Node begins at @tutti/client-sdk/node.

export type { Examples } from "@tutti/train/batches";
export type { Device, DeviceParts, ParticipateOptions, Participation } from "./device.ts";
export { openDevice } from "./device.ts";
export type { Activity, DeviceEvent, Listener } from "./events.ts";
export { type About, type Data, examplesFromArrays, type Split, splitExamples, subset } from "./examples.ts";
export type { Link } from "./link.ts";
export type { Model, ModelRelease, Running, Runtime } from "./model.ts";
export { defaultPolicy, type Policy, parsePolicy, permit, policyText } from "./policy.ts";
export type { DeviceIdentity, Site } from "./site.ts";
export type { OwnState } from "./state.ts";
export { type HeldRelease, memoryStore, type Store } from "./store.ts";
export { openTrainer, type Score, type Trained, type Trainer, type TrainOptions } from "./trainer.ts";

// For neighbours: import the file, not this index.
