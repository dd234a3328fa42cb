import { factorOf } from "../spec.ts";
import { isGguf } from "./gguf.ts";
import { isOnnxAdapter } from "./onnx-adapter.ts";
import { isPickle } from "./peft-adapter.ts";
import { openSafetensors } from "./safetensors.ts";

/**
 * What an adapter is kept as:
 * - "peft": a folder with adapter_config.json and adapter_model.safetensors;
 * - "safetensors": PEFT's tensors without their config, so without alpha;
 * - "tutti": the file that a release names by hash: float32 tensors under the graph's names;
 * - "gguf", "onnx_adapter": llama.cpp's and onnxruntime's;
 * - "pickle": what torch.save writes, which nobody should read.
 */
export type AdapterFormat = "peft" | "safetensors" | "tutti" | "gguf" | "onnx_adapter" | "pickle";

/** PEFT's names of the files in its folder. */
export const PEFT_CONFIG = "adapter_config.json";
export const PEFT_WEIGHTS = "adapter_model.safetensors";

/** The format of a file's bytes or of a folder with these entries; undefined for anything else. */
export function formatOf(content: Uint8Array | readonly string[]): AdapterFormat | undefined {
  if (!(content instanceof Uint8Array)) return folderFormat(content);
  if (isGguf(content)) return "gguf";
  if (isOnnxAdapter(content)) return "onnx_adapter";
  if (isPickle(content)) return "pickle";
  return isSafetensors(content) ? safetensorsFormat(content) : undefined;
}

function folderFormat(entries: readonly string[]): AdapterFormat | undefined {
  if (entries.includes(PEFT_CONFIG) && entries.includes(PEFT_WEIGHTS)) return "peft";
  return entries.some((entry) => entry === "adapter_model.bin") ? "pickle" : undefined;
}

/** The header begins with a brace and fits into the file. */
function isSafetensors(bytes: Uint8Array): boolean {
  if (bytes.length < 10 || bytes[8] !== 0x7b) return false;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  return length <= BigInt(bytes.length - 8);
}

/**
 * PEFT puts a prefix before its names; ours are the graph's own.
 * @throws Fault("bad-input") for a malformed file.
 */
function safetensorsFormat(bytes: Uint8Array): AdapterFormat | undefined {
  const names = [...openSafetensors(bytes).tensors.keys()];
  if (names.some((name) => name.startsWith("base_model."))) return "safetensors";
  return names.some((name) => factorOf(name) !== "whole") ? "tutti" : undefined;
}
