// For users.

// For neighbours: import the file, not this index.
export { type Builder, builderOn } from "./builder.ts";
export {
  type Onnxruntime,
  type OnnxruntimeOptions,
  onnxruntimeEngine,
} from "./engines/onnxruntime/engine.ts";
export { evaluate } from "./evaluate/evaluate.ts";
export type { DType, Engine, Graph, Program, Tensor, Tensors, TracedGraph } from "./ir.ts";
export { type Model, type ReadOptions, read } from "./read.ts";
export { trace } from "./trace.ts";
export { write } from "./write.ts";
