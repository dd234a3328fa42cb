// For users: a device in Node.
export { float32, type Tensor, type Tensors } from "@tutti/graph/ir";
export type { Examples } from "@tutti/train/batches";
export { examplesFromArrays, splitExamples } from "../examples.ts";
export { type CsvOptions, csvData } from "./csv.ts";
export { Device, type DeviceOptions } from "./device.ts";
export { type EngineName, nodeEngine } from "./engine.ts";
export { type ConnectOptions, connect, connectService } from "./grpc.ts";
export { type JoinOptions, join, spendJoinFile } from "./join.ts";
