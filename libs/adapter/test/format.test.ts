import { utf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatOf } from "../src/formats/format.ts";
import { toGguf } from "../src/formats/gguf-lora.ts";
import { toOnnxAdapter } from "../src/formats/onnx-adapter-lora.ts";
import { writePeft } from "../src/formats/peft-adapter.ts";
import { writeSafetensors, writeTensors } from "../src/formats/safetensors.ts";
import { LINEAR } from "./bases.ts";
import { moduleOf, survives } from "./files.ts";

const name = "model.layers.0.self_attn.q_proj";
const module = moduleOf({ name, kind: "linear", in: 3, out: 4, rank: 2, alpha: 2, rslora: false });
const peft = { modules: [module], whole: [] };
const weights = writePeft(peft).weights;
const own = [{ name: `${name}.lora_A.weight`, shape: module.a.shape }];
const values = new Map([[own[0]!.name, module.a.data]]);
const zip = [0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0];

test.each([
  ["gguf", toGguf(peft, { arch: "qwen2" })],
  ["onnx_adapter", toOnnxAdapter(peft)],
  ["safetensors", weights],
  ["tutti", writeTensors(own, values)],
  ["pickle", Uint8Array.from(zip)],
  ["pickle", Uint8Array.of(0x80, 2, 0x8a, 10, 0, 0)],
  ["peft", ["README.md", "adapter_model.safetensors", "adapter_config.json"]],
  ["pickle", ["adapter_config.json", "adapter_model.bin"]],
  [undefined, ["adapter_config.json"]],
  [undefined, []],
  [undefined, LINEAR["Gemm plain"]!.bytes],
  [undefined, utf8("{}")],
  [undefined, writeSafetensors([{ name: "x", shape: [1], data: Float32Array.of(1) }])],
] as const)("format %s is told by the content", (expected, content) => {
  expect(formatOf(content)).toBe(expected);
});

test("any bytes have a format, none, or a Fault", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        formatOf(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(Fault);
      }
    }),
  );
  survives(weights, formatOf);
});
