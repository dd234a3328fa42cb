import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { ExternalData } from "@tutti/graph/onnx/tensor";
import { type AdapterTensors, changesOf, checkBase, checkTensors } from "./change.ts";
import { BFLOAT16, FLOAT, FLOAT16, mapFile } from "./file/map.ts";
import { recordOf } from "./file/rewrite.ts";
import { type Files, rounded, Values } from "./file/values.ts";
import { type MergeOptions, mergeFiles, valuesOf } from "./merge.ts";
import type { ResolvedAdapter } from "./spec.ts";

export type UnmergeOptions = MergeOptions & {
  /** The base file: then the result is the base, and that `bytes` were made of it is checked. */
  readonly base?: Uint8Array;
  /** Gives the files beside that base, for one that keeps weights in them. */
  readonly baseExternal?: ExternalData | undefined;
};

export type Unmerged = Files & {
  /** The model file is the base, byte for byte. (Files beside it have no hash that could be checked.) */
  readonly exact: boolean;
  /**
   * No element of a restored weight is further than this from the base's: merging rounded once and taking
   * out rounds again, each time by at most half a step of the file's type. 0 where the base was given.
   */
  readonly bound: number;
};

/**
 * The reverse of `mergeFiles`: `W −= scale·B·A`. A sum that was rounded does not tell what it was made of, so
 * without the base the weights come back to within `bound` and not bit for bit. Weights that were copied when
 * they were merged come back exactly, and the copies go. With external weights, `external` gives the merged
 * files, and with a base `baseExternal` the base's.
 * @throws Fault("bad-input") for saved tensors without `base` (the merged file does not hold what they
 * replaced) or for a file that this adapter was not merged into; Fault("refused") for another base.
 */
export function unmerge(
  bytes: Uint8Array,
  adapter: ResolvedAdapter,
  tensors: AdapterTensors,
  { base, external, baseExternal }: UnmergeOptions = {},
): Unmerged {
  checkTensors("unmerge", adapter, tensors);
  if (base) return withBase(bytes, { base, external, baseExternal, adapter, tensors });
  const start = uncopied(bytes, adapter);
  const map = mapFile(start);
  const held = new Values(start, external);
  let bound = 0;
  for (const change of changesOf(adapter, tensors, { sign: -1 })) {
    if (change.shared) continue;
    const { stored, values } = valuesOf(map, held, change);
    const merged = values.slice();
    change.apply(values);
    for (const all of [merged, rounded(stored.dataType, values).values])
      bound = Math.max(bound, halfStep(stored.dataType, all));
    held.write(stored, values);
  }
  const { files } = held;
  return { ...files, exact: sha256Hex(files.model) === adapter.baseSha256, bound: 2 * bound };
}

type WithBase = Pick<UnmergeOptions, "external" | "baseExternal"> & {
  readonly base: Uint8Array;
  readonly adapter: ResolvedAdapter;
  readonly tensors: AdapterTensors;
};

function withBase(bytes: Uint8Array, { base, external, baseExternal, adapter, tensors }: WithBase): Unmerged {
  checkBase("unmerge", base, adapter);
  const made = mergeFiles(base, adapter, tensors, { external: baseExternal });
  mustBeMade("merged model", made.model, bytes);
  for (const [location, file] of made.external) mustBeMade(`merged ${location}`, file, external?.(location));
  const files = [...made.external.keys()].map((location) => [location, baseExternal!(location)] as const);
  return { model: new Uint8Array(base), external: new Map(files), exact: true, bound: 0 };
}

function mustBeMade(what: string, made: Uint8Array, given: Uint8Array | undefined): void {
  demand(given && equalBytes(made, given), () => {
    const expected = "what this adapter makes of the base";
    const got = given ? "other bytes" : "none";
    return new Fault("bad-input", `unmerge: ${what}`, { expected, got });
  });
}

/** The merged file without the copies that the merge added: there the shared weights are the base's. */
function uncopied(bytes: Uint8Array, { modules, saved, baseSha256 }: ResolvedAdapter): Uint8Array {
  const [whole] = saved;
  demand(!whole, () => {
    const todo = "Give the base (`base`, --base)";
    return new Fault("bad-input", `unmerge: ${whole?.name}`, { expected: "the base's values", todo });
  });
  const found = recordOf(bytes);
  const merged = found?.record.kind === "merged" && found.record.baseSha256 === baseSha256;
  const copied = modules.find(({ shared }) => shared);
  demand(!copied || merged, () => {
    const expected = `a file with its own copy of ${copied?.weight}`;
    return new Fault("bad-input", `unmerge: ${copied?.module}`, { expected, got: "no record of one" });
  });
  return merged ? found.restored() : bytes;
}

/** Bits of the fraction by TensorProto.DataType. */
const FRACTION: Readonly<Record<number, number>> = { [FLOAT]: 23, [FLOAT16]: 10, [BFLOAT16]: 7 };

/** Half the distance between neighbours of the largest value: no rounding of these values is larger. */
function halfStep(dataType: number, values: Float64Array): number {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 2 ** -100);
  return 2 ** (Math.floor(Math.log2(largest)) - FRACTION[dataType]! - 1);
}
