// biome-ignore-all assist/source/organizeImports: what users may rely on stands first, above the line.

// For users: a file in, a graph out, and back.
export { type Model, type ReadOptions, read } from "./read.ts";
export { write } from "./write.ts";
export type { Bind } from "./bind.ts";
export { trace } from "./trace.ts";
export { widened } from "./widen.ts";
export { demote, promote } from "./promote.ts";
export { type Loss, type LossKind, type LossOptions, withLoss } from "./loss.ts";
export { type DifferentiateOptions, differentiate } from "./differentiate.ts";
export { type CheckpointOptions, checkpointed } from "./checkpoint.ts";
export { constantBytes, peakBytes } from "./memory.ts";
export { type Inspection, inspect } from "./inspect.ts";
// What runs a graph.
export { type AutoEngine, type AutoOptions, autoEngine, type Choice } from "./engines/auto.ts";
export {
  type Onnxruntime,
  type OnnxruntimeOptions,
  onnxruntimeEngine,
} from "./engines/onnxruntime/engine.ts";
export { tfjsEngine } from "./engines/tfjs/engine.ts";
export type { Tf } from "./engines/tfjs/tfjs.ts";
export type { DType, Engine, Graph, Program, Tensor, Tensors, TracedGraph } from "./ir.ts";
export { float32 } from "./ir.ts";
export { int64 } from "./tensor.ts";
// Models made here.
export { type CnnOptions, type ConvolutionOptions, cnn } from "./make/cnn.ts";
export { type Activation, type MlpOptions, mlp } from "./make/mlp.ts";
export { type TransformerOptions, transformer } from "./make/transformer.ts";

// For neighbours: import the file, not this index.
export { type Builder, builderOn } from "./builder.ts";
export { evaluate } from "./evaluate/evaluate.ts";
export { type Barrier, barriers } from "./inspect.ts";
export { inferNode } from "./infer/infer.ts";
export { LOSS_INPUTS, LOSS_OUTPUTS } from "./loss.ts";
export { liveBytes } from "./memory.ts";
export { live, readsOf } from "./prune.ts";
