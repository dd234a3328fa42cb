// For users: a device in Node.
export { examplesFromArrays, splitExamples } from "../examples.ts";
export { type CsvOptions, csvData } from "./csv.ts";
export { Device, type DeviceOptions } from "./device.ts";
export { type EngineName, nodeEngine } from "./engine.ts";
export { type ConnectOptions, connect, connectService } from "./grpc.ts";
export { type JoinOptions, join } from "./join.ts";
