import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import type { Engine } from "@tutti/graph/ir";
import * as ort from "onnxruntime-node";

/**
 * onnxruntime, one thread per model: several devices share a small machine without waiting for each other.
 */
export function oneThread(): Engine {
  return onnxruntimeEngine(ort, { session: { intraOpNumThreads: 1, interOpNumThreads: 1 } });
}
