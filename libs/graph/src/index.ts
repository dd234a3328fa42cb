// biome-ignore-all assist/source/organizeImports: what users may rely on stands above what only neighbours use.

// For users.
export {
  type Onnxruntime,
  type OnnxruntimeOptions,
  onnxruntimeEngine,
} from "./engines/onnxruntime/engine.ts";
export type { DType, Engine, Graph, Program, Tensor, Tensors, TracedGraph } from "./ir.ts";
export { type Model, type ReadOptions, read } from "./read.ts";
export type { Bind } from "./bind.ts";
export { trace } from "./trace.ts";
export { widened } from "./widen.ts";
export { write } from "./write.ts";

// For neighbours: import the file, not this index.
export { type Builder, builderOn } from "./builder.ts";
export { evaluate } from "./evaluate/evaluate.ts";
export { inferNode } from "./infer/infer.ts";
