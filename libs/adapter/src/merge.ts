import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { toHalf } from "@tutti/graph/half";
import type { Tensor } from "@tutti/graph/ir";
import { type ExternalData, writeTensor } from "@tutti/graph/onnx/tensor";
import { encode } from "@tutti/wire/message";
import { TensorProtoSchema } from "@tutti/wire/onnx";
import {
  type AdapterTensors,
  type Change,
  changesOf,
  checkBase,
  checkTensors,
  type Sha256Hex,
} from "./change.ts";
import { type FileMap, FLOAT, FLOAT16, mapFile, type StoredTensor } from "./file/map.ts";
import { type NodeChange, rewritten } from "./file/rewrite.ts";
import { type Files, rounded, Values } from "./file/values.ts";
import type { ResolvedAdapter } from "./spec.ts";

/**
 * The base file with the adapter in its weights: `W += scale·B·A` in each weight's own orientation, saved
 * tensors in place of the base's. Weights are overwritten where they lie and every other byte stays. Only a
 * weight that other nodes read too is copied, so that those go on reading the base's, and the file grows by
 * the copy. Sums are taken in double precision and rounded once, to the file's type (float32, float16 or
 * bfloat16; `mergeReport` says by how much).
 * @throws Fault("refused") when `bytes` are not the base that was resolved; Fault("bad-input") for a tensor
 * that is missing or of another size; Fault("unsupported") for a weight that cannot be overwritten
 * (quantised, or external: see `mergeFiles`).
 */
export function merge(
  bytes: Uint8Array,
  adapter: ResolvedAdapter,
  tensors: AdapterTensors,
  { sha256Hex }: Pick<MergeOptions, "sha256Hex"> = {},
): Uint8Array {
  return mergeFiles(bytes, adapter, tensors, { sha256Hex }).model;
}

export type MergeOptions = {
  /** Gives the bytes of a file that the base keeps weights in. They are not written to. */
  readonly external?: ExternalData | undefined;
  /** The platform's own SHA-256, to check the base with: ours takes most of a merge's time. */
  readonly sha256Hex?: Sha256Hex | undefined;
};

/**
 * `merge` for a base that keeps weights in files beside it: the merged model and each of those files that
 * changed, by location. They belong together, in a folder of their own: the model names its files as before.
 */
export function mergeFiles(
  bytes: Uint8Array,
  adapter: ResolvedAdapter,
  tensors: AdapterTensors,
  { external, sha256Hex }: MergeOptions = {},
): Files {
  checkBase("merge", bytes, { ...adapter, hash: sha256Hex });
  checkTensors("merge", adapter, tensors);
  const map = mapFile(bytes);
  const held = new Values(bytes, external);
  const copies = new Copies(map);
  for (const change of changesOf(adapter, tensors)) {
    const { stored, values } = valuesOf(map, held, change);
    change.apply(values);
    if (change.shared) copies.add(change, { stored, values });
    else held.write(stored, values);
  }
  const { files } = held;
  return copies.empty ? files : { ...files, model: copies.into(files.model, adapter) };
}

/** What merging does to one weight. Sizes are of the largest element, in the weight's own units. */
export type Merged = {
  /** The module, or the saved tensor. */
  readonly what: string;
  readonly dtype: string;
  readonly largestChange: number;
  /** Between the exact sum and what the file's type can hold of it. */
  readonly largestRounding: number;
};

/** What `mergeFiles` would do, weight by weight. Throws as it does. */
export function mergeReport(
  bytes: Uint8Array,
  adapter: ResolvedAdapter,
  tensors: AdapterTensors,
  { external, sha256Hex }: MergeOptions = {},
): readonly Merged[] {
  checkBase("merge", bytes, { ...adapter, hash: sha256Hex });
  checkTensors("merge", adapter, tensors);
  const map = mapFile(bytes);
  const held = new Values(bytes, external);
  return changesOf(adapter, tensors).map((change) => {
    const { stored, values } = valuesOf(map, held, change);
    const before = values.slice();
    change.apply(values);
    const { name, values: after } = rounded(stored.dataType, values);
    const [largestChange, largestRounding] = [apart(values, before), apart(values, after)];
    return { what: change.what, dtype: name, largestChange, largestRounding };
  });
}

/** A stored tensor that an adapter would change: a candidate's weight, or a tensor trained whole. */
export type Mergeable = Pick<Change, "what" | "tensor" | "uses" | "shared">;

/**
 * What `mergeFiles` would throw for each of these tensors of the base, in their order; undefined where it
 * would merge. No adapter is needed: which values it holds makes no difference.
 */
export function mergeRefusals(
  bytes: Uint8Array,
  wanted: readonly Mergeable[],
  { external }: Pick<MergeOptions, "external"> = {},
): readonly (Fault | undefined)[] {
  const map = mapFile(bytes);
  const held = new Values(bytes, external);
  return wanted.map((change) => {
    try {
      const stored = storedOf(map, change.tensor);
      held.check(stored, place(change));
      if (change.shared) checkCopy(stored, change);
      return undefined;
    } catch (error) {
      if (error instanceof Fault) return error;
      throw error;
    }
  });
}

function apart(a: Float64Array, b: Float64Array): number {
  return a.reduce((most, value, at) => Math.max(most, Math.abs(value - b[at]!)), 0);
}

/** The stored tensor that a change is about, and its values. */
export function valuesOf(
  map: FileMap,
  held: Values,
  change: Pick<Change, "what" | "tensor">,
): { readonly stored: StoredTensor; readonly values: Float64Array } {
  const stored = storedOf(map, change.tensor);
  return { stored, values: held.read(stored, place(change)) };
}

function storedOf(map: FileMap, tensor: string): StoredTensor {
  const stored = map.tensors.get(tensor);
  assert(stored, `the resolved tensor ${tensor} is in the file`);
  return stored;
}

function place({ what, tensor }: Pick<Change, "what" | "tensor">): string {
  return `merge: ${what}, weight ${tensor}`;
}

/** A weight that other nodes go on reading is copied, for which its readers must read it as it is stored. */
function checkCopy({ dataType }: StoredTensor, change: Mergeable): void {
  const type = dataType === FLOAT || dataType === FLOAT16;
  const direct = type && change.uses.every(({ converted }) => !converted);
  const got = direct ? "" : `ONNX data type ${dataType}, converted on the way`;
  const expected = "float32 or float16, read directly, for a weight that other nodes read too";
  demand(direct, () => new Fault("unsupported", place(change), { expected, got }));
}

/** Weights of which others read the original: each goes to the end of the graph under a new name. */
class Copies {
  readonly #map: FileMap;
  readonly #names: Set<string>;
  readonly #tensors: Uint8Array[] = [];
  readonly #nodes = new Map<string, NodeChange>();

  constructor(map: FileMap) {
    this.#map = map;
    this.#names = new Set(map.names);
  }

  get empty(): boolean {
    return this.#tensors.length === 0;
  }

  add(change: Change, { stored, values }: { stored: StoredTensor; values: Float64Array }): void {
    checkCopy(stored, change);
    const { what, tensor, uses } = change;
    const names = new Map<boolean, string>();
    for (const { node, input, transposed } of uses) {
      const name = names.get(transposed) ?? this.#append(`${tensor}/${what}`, { stored, values, transposed });
      names.set(transposed, name);
      const known = this.#nodes.get(node) ?? { inputs: new Map(), outputs: new Map(), before: [], after: [] };
      known.inputs.set(input, name);
      this.#nodes.set(node, known);
    }
  }

  into(bytes: Uint8Array, { baseSha256 }: ResolvedAdapter): Uint8Array {
    const changes = { nodes: this.#nodes, initializers: this.#tensors };
    return rewritten(bytes, this.#map, { kind: "merged", baseSha256, changes });
  }

  /** The copy lies as its node reads it: a Transpose on the way stays with the original. */
  #append(
    wanted: string,
    { stored, values, transposed }: { stored: StoredTensor; values: Float64Array; transposed: boolean },
  ): string {
    let name = wanted;
    while (this.#names.has(name)) name += "_";
    this.#names.add(name);
    const turned = transposed ? transpose(values, stored.shape) : values;
    const shape = transposed ? stored.shape.toReversed() : stored.shape;
    const tensor: Tensor =
      stored.dataType === FLOAT
        ? { dtype: "float32", shape, data: Float32Array.from(turned) }
        : { dtype: "float16", shape, data: Uint16Array.from(turned, toHalf) };
    this.#tensors.push(encode(TensorProtoSchema, writeTensor(name, tensor)));
    return name;
  }
}

/** A row-major matrix with its axes exchanged. */
export function transpose<T extends Float64Array | Float32Array>(values: T, shape: readonly number[]): T {
  const [rows, columns] = shape as readonly [number, number];
  assert(shape.length === 2 && values.length === rows * columns, "transpose: a matrix");
  return values.map((_, at) => values[(at % rows) * columns + Math.floor(at / rows)]!) as T;
}
