import { concat } from "@tutti/foundation/bytes";
import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { fromHalf, toHalf } from "@tutti/graph/half";
import { float32, sizeOf } from "@tutti/graph/ir";
import { writeTensor } from "@tutti/graph/onnx/tensor";
import { encode } from "@tutti/wire/message";
import { TensorProtoSchema } from "@tutti/wire/onnx";
import { extended, type FileMap, FLOAT, FLOAT16, mapFile, type StoredTensor } from "./file.ts";
import { type AdaptedModule, factorSpecs, type ResolvedAdapter, type Use } from "./spec.ts";

/**
 * The base file with the adapter in its weights: `W += scale·B·A` in each weight's own orientation, saved
 * tensors in place of the base's. Weights are overwritten where they lie and every other byte stays. Only a
 * weight that other nodes read too is copied, so that those go on reading the base's, and the file grows by
 * the copy. Sums are taken in double precision and rounded once, to the file's type (float32 or float16).
 * @throws Fault("refused") when `bytes` are not the base that was resolved; Fault("bad-input") for a tensor
 * that is missing or of another size; Fault("unsupported") for a weight that cannot be overwritten
 * (quantised, external).
 */
export function merge(
  bytes: Uint8Array,
  adapter: ResolvedAdapter,
  tensors: ReadonlyMap<string, Float32Array>,
): Uint8Array {
  checkBase(bytes, adapter);
  checkTensors(adapter, tensors);
  const map = mapFile(bytes);
  const out = new Uint8Array(bytes);
  const copies = new Copies(map);
  for (const change of changesOf(adapter, tensors)) {
    const stored = overwritable(map, change);
    const values = readValues(bytes, stored);
    change.apply(values);
    if (change.shared) copies.add(change, { stored, values });
    else writeValues(out, stored, values);
  }
  return copies.empty ? out : copies.into(out);
}

/** One stored tensor that changes: `apply` works on its values, in the file's order. */
type Change = {
  readonly what: string;
  readonly tensor: string;
  readonly uses: readonly Use[];
  readonly shared: boolean;
  apply(values: Float64Array): void;
};

function changesOf(adapter: ResolvedAdapter, tensors: ReadonlyMap<string, Float32Array>): readonly Change[] {
  const products = adapter.modules.map((module): Change => {
    const [a, b] = factorSpecs(module).map(({ name }) => tensors.get(name)!) as [Float32Array, Float32Array];
    const { weight, uses, shared } = module;
    return {
      what: module.module,
      tensor: weight,
      uses,
      shared,
      apply: (values) => addProduct(values, module, { a, b }),
    };
  });
  const whole = adapter.saved.map(({ name, initializer, uses, shared }): Change => {
    return {
      what: name,
      tensor: initializer,
      uses,
      shared,
      apply: (values) => values.set(tensors.get(name)!),
    };
  });
  return [...products, ...whole];
}

/**
 * `W += scale·B·A` (Hu et al. 2021, section 4.1); a convolution's kernel counts as part of its input width.
 */
function addProduct(
  values: Float64Array,
  { layout, in: channels, out, kernel, rank, scale }: AdaptedModule,
  { a, b }: { a: Float32Array; b: Float32Array },
): void {
  const width = channels * sizeOf(kernel);
  // Steps from one output, or one input, to the next in the stored weight.
  const [byOut, byIn] = layout === "out-in" ? [width, 1] : [1, out];
  for (let o = 0; o < out; o++) {
    for (let r = 0; r < rank; r++) {
      const factor = scale * b[o * rank + r]!;
      for (let i = 0; i < width; i++) values[o * byOut + i * byIn]! += factor * a[r * width + i]!;
    }
  }
}

function checkBase(bytes: Uint8Array, { baseSha256 }: ResolvedAdapter): void {
  const got = sha256Hex(bytes);
  demand(
    got === baseSha256,
    () => new Fault("refused", "merge: base model", { expected: `SHA-256 ${baseSha256}`, got }),
  );
}

function checkTensors(adapter: ResolvedAdapter, tensors: ReadonlyMap<string, Float32Array>): void {
  for (const { name, shape } of adapter.tensors) {
    const length = tensors.get(name)?.length;
    if (length === sizeOf(shape)) continue;
    const expected = `${sizeOf(shape)} values`;
    throw new Fault("bad-input", `merge: tensor ${name}`, { expected, got: `${length ?? "none"}` });
  }
}

function overwritable(map: FileMap, { what, tensor }: Change): StoredTensor {
  const stored = map.tensors.get(tensor);
  assert(stored, `the resolved tensor ${tensor} is in the file`);
  const width = WIDTHS[stored.dataType];
  const held = stored.data.reduce((sum, { start, end }) => sum + end - start, 0);
  if (width && !stored.external && held === width * sizeOf(stored.shape)) return stored;
  throw new Fault("unsupported", `merge: ${what}, weight ${tensor}`, {
    expected: "float32 or float16 values in the file itself",
    got: stored.external ? "external data" : `ONNX data type ${stored.dataType}, ${held} bytes`,
    todo: "Attach the adapter beside the base instead of merging it, once that is there",
  });
}

/** Bytes per value of the types that can be overwritten. */
const WIDTHS: Readonly<Record<number, number>> = { [FLOAT]: 4, [FLOAT16]: 2 };

function readValues(bytes: Uint8Array, { dataType, data }: StoredTensor): Float64Array {
  const { buffer } = concat(...data.map(({ start, end }) => bytes.subarray(start, end)));
  return dataType === FLOAT
    ? Float64Array.from(new Float32Array(buffer))
    : Float64Array.from(new Uint16Array(buffer), fromHalf);
}

/** The reverse of `readValues`; values that did not change round to the bits they came from. */
function writeValues(out: Uint8Array, { dataType, data }: StoredTensor, values: Float64Array): void {
  const rounded = dataType === FLOAT ? Float32Array.from(values) : Uint16Array.from(values, toHalf);
  const bytes = new Uint8Array(rounded.buffer);
  let at = 0;
  for (const { start, end } of data) {
    out.set(bytes.subarray(at, at + end - start), start);
    at += end - start;
  }
}

/** Weights of which others read the original: each goes to the end of the graph under a new name. */
class Copies {
  readonly #map: FileMap;
  readonly #names: Set<string>;
  readonly #tensors: Uint8Array[] = [];
  readonly #inputs = new Map<string, Map<number, string>>();

  constructor(map: FileMap) {
    this.#map = map;
    this.#names = new Set(map.names);
  }

  get empty(): boolean {
    return this.#tensors.length === 0;
  }

  add(
    { what, tensor, uses }: Change,
    { stored, values }: { stored: StoredTensor; values: Float64Array },
  ): void {
    const direct = stored.dataType === FLOAT && uses.every(({ converted }) => !converted);
    const got = direct ? "" : `ONNX data type ${stored.dataType}, converted on the way`;
    const expected = "float32 for a weight that other nodes read too";
    demand(direct, () => new Fault("unsupported", `merge: ${what}, weight ${tensor}`, { expected, got }));
    const names = new Map<boolean, string>();
    for (const { node, input, transposed } of uses) {
      const name = names.get(transposed) ?? this.#append(`${tensor}/${what}`, { stored, values, transposed });
      names.set(transposed, name);
      const renamed = this.#inputs.get(node) ?? new Map<number, string>();
      this.#inputs.set(node, renamed.set(input, name));
    }
  }

  into(bytes: Uint8Array): Uint8Array {
    return extended(bytes, this.#map, { tensors: this.#tensors, inputs: this.#inputs });
  }

  /** The copy lies as its node reads it: a Transpose on the way stays with the original. */
  #append(
    wanted: string,
    { stored, values, transposed }: { stored: StoredTensor; values: Float64Array; transposed: boolean },
  ): string {
    let name = wanted;
    while (this.#names.has(name)) name += "_";
    this.#names.add(name);
    const data = Float32Array.from(transposed ? transpose(values, stored.shape) : values);
    const shape = transposed ? stored.shape.toReversed() : stored.shape;
    this.#tensors.push(encode(TensorProtoSchema, writeTensor(name, float32(shape, data))));
    return name;
  }
}

/** A row-major matrix with its axes exchanged. */
export function transpose<T extends Float64Array | Float32Array>(values: T, shape: readonly number[]): T {
  const [rows, columns] = shape as readonly [number, number];
  assert(shape.length === 2 && values.length === rows * columns, "transpose: a matrix");
  return values.map((_, at) => values[(at % rows) * columns + Math.floor(at / rows)]!) as T;
}
