import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { decode } from "@tutti/wire/message";
import { TensorProtoSchema } from "@tutti/wire/onnx";
import type { Tensor } from "../src/ir.ts";
import { readTensor } from "../src/onnx/tensor.ts";
import { shared } from "./shared.ts";

/** One of the ONNX standard's own node tests: a model, what to feed and what must come out. */
export type BackendCase = {
  readonly name: string;
  readonly group: string;
  readonly ops: readonly string[];
  readonly opset: number;
  /** Whether onnxruntime itself computes what the standard expects. */
  readonly ort: boolean;
  readonly model: Uint8Array;
  /** By position among the model's inputs and outputs. */
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
};

type Entry = { group: string; name: string; ops: string[]; opset: number; ort: string };

/** All cases but the whole CNNs; none where the shared folder is absent. */
export function backendCases(): BackendCase[] {
  const files = archive();
  if (!files) return [];
  const text = (name: string) => new TextDecoder().decode(files.get(name));
  const index = JSON.parse(text("onnx-backend-tests/index.json")) as Entry[];
  return index.flatMap(({ group, name, ops, opset, ort }) => {
    const folder = `onnx-backend-tests/${group}/${name}/`;
    const model = files.get(`${folder}model.onnx`);
    if (!model) return [];
    const tensors = (kind: string) => series(files, `${folder}test_data_set_0/${kind}`);
    const [inputs, outputs] = [tensors("input"), tensors("output")];
    return [{ group, name, ops, opset, ort: ort === "pass", model, inputs, outputs }];
  });
}

/** A whole CNN whose weights are constant fills; the image is 0, 1/n, 2/n, … (onnx's own test runner). */
export type WholeModel = { readonly name: string; readonly model: Uint8Array; readonly output: Tensor };

/** The standard's three whole CNNs. */
export function wholeModels(): WholeModel[] {
  const files = archive();
  if (!files) return [];
  return ["light_resnet50", "light_shufflenet", "light_squeezenet"].flatMap((name) => {
    const prefix = `onnx-backend-tests/light/${name}`;
    const [output] = series(files, `${prefix}_output`);
    const model = files.get(`${prefix}.onnx`);
    return model && output ? [{ name, model, output }] : [];
  });
}

function archive(): Map<string, Uint8Array> | undefined {
  const path = shared("conformance/onnx-backend-tests.tar.gz");
  return path ? untar(gunzipSync(readFileSync(path))) : undefined;
}

function series(files: ReadonlyMap<string, Uint8Array>, prefix: string): Tensor[] {
  const out: Tensor[] = [];
  for (let bytes = files.get(`${prefix}_0.pb`); bytes; bytes = files.get(`${prefix}_${out.length}.pb`)) {
    try {
      out.push(readTensor(decode(TensorProtoSchema, bytes, 2 ** 26), prefix));
    } catch {
      return []; // sequences, optionals and exotic dtypes: the model itself is refused as well
    }
  }
  return out;
}

/**
 * Files of a tar archive: 512-byte ustar headers, sizes in octal; GNU's "L" entry holds a long name of
 * the next.
 */
function untar(archive: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (from: number, length: number) => {
    return new TextDecoder().decode(archive.subarray(from, from + length)).split("\0")[0]!;
  };
  let longName = "";
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    const kind = text(at + 156, 1);
    const name = longName || text(at, 100);
    if (kind === "0") files.set(name, archive.subarray(at + 512, at + 512 + size));
    longName = kind === "L" ? text(at + 512, size) : "";
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}
