import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { attachedFeeds, savedName } from "../attach.ts";
import type { AdapterTensors } from "../change.ts";
import { transpose } from "../merge.ts";
import { factorNames, type ResolvedAdapter } from "../spec.ts";
import { type Parameter, readOnnxAdapter, writeOnnxAdapter } from "./onnx-adapter.ts";
import {
  factorOfName,
  moduleFrom,
  type NamedTensor,
  type PeftAdapter,
  type PeftModule,
} from "./peft-adapter.ts";
import { type FloatTensor, widened } from "./safetensors.ts";
import { narrowed } from "./safetensors-narrow.ts";

/**
 * LoRA adapters as .onnx_adapter files. A parameter is fed to the graph input of its name, so the file must
 * be laid out as the graph reads it. It has no place for a scale: B is multiplied by it.
 *
 * - "olive": A [in, r] and B [r, out], for MatMul (Olive, convert_adapters.py);
 * - "attached": PEFT's own shapes, as the inputs of a graph that Tutti attached have them.
 */
export type ParameterLayout = "olive" | "attached";

export type ToOnnxAdapterOptions = {
  readonly dtype?: "F32" | "F16" | undefined;
  /** Counts of the writer's own, kept in the file. */
  readonly adapterVersion?: number;
  readonly modelVersion?: number;
};

const VERSIONS = { adapterVersion: 1, modelVersion: 1 } as const;

/**
 * The adapter as an .onnx_adapter file laid out for a graph of Olive's.
 * @throws Fault("unsupported") for a convolution, whose factors that layout has no orientation for, and for
 * tensors trained whole.
 */
export function toOnnxAdapter(peft: PeftAdapter, options: ToOnnxAdapterOptions = {}): Uint8Array {
  const { dtype = "F32", ...versions } = options;
  const [whole] = peft.whole;
  demand(whole === undefined, () => noPlace(whole!.name, "a tensor trained whole"));
  const parameters = new Map<string, Parameter>();
  for (const { name, kind, scale, a, b } of peft.modules) {
    demand(kind !== "conv", () => noPlace(name, "factors of a convolution"));
    const names = factorNames(name, kind);
    const scaled = scale === 1 ? b : { ...b, data: b.data.map((value) => value * scale) };
    for (const [key, tensor] of [
      [names.a, a],
      [names.b, scaled],
    ] as const) {
      const { shape, data } = turned(tensor);
      parameters.set(key, { dtype, shape, bytes: narrowed(dtype, { data }, key) });
    }
  }
  return writeOnnxAdapter({ ...VERSIONS, ...versions, parameters });
}

/**
 * The adapter as an .onnx_adapter file for a graph that `attach` made of its base: the feeds of that graph,
 * under the names of its inputs, saved tensors included.
 */
export function toAttachedOnnxAdapter(adapter: ResolvedAdapter, tensors: AdapterTensors): Uint8Array {
  const feeds = [...attachedFeeds(adapter, tensors)];
  const parameters = feeds.map(([name, { shape, data }]): [string, Parameter] => {
    return [name, { dtype: "F32", shape, bytes: narrowed("F32", { data: data as Float32Array }, name) }];
  });
  return writeOnnxAdapter({ ...VERSIONS, parameters: new Map(parameters) });
}

/**
 * The adapter in an .onnx_adapter file, with scale 1 as B holds it already. Without a layout the shapes tell,
 * by what A and B share, or (where input and output are equally wide) by the rank being the smaller size.
 * Tensors trained whole, which only "attached" has, lie as the base stores them.
 * @throws Fault("unsupported") for parameters that are neither; Fault("bad-input") where A and B do not fit.
 */
export function fromOnnxAdapter(bytes: Uint8Array, layout?: ParameterLayout): PeftAdapter {
  type Pair = { a?: FloatTensor; b?: FloatTensor; table: boolean };
  const pairs = new Map<string, Pair>();
  const whole: NamedTensor[] = [];
  for (const [name, { dtype, shape, bytes: raw }] of readOnnxAdapter(bytes).parameters) {
    const saved = layout === "olive" ? undefined : savedName(name);
    if (saved !== undefined) {
      whole.push({ name: saved, dtype, shape, data: widened(dtype, raw), asStored: true });
      continue;
    }
    // onnxruntime-genai's builder calls the graph's inputs after their nodes.
    const found = factorOfName(
      name.replace(/^base_model\.model\./, "").replace(/\.MatMul\.weight$/, ".weight"),
    );
    demand(found, () => {
      return new Fault("unsupported", `onnx_adapter parameter ${name}`, {
        expected: "lora_A, lora_B or a saved tensor",
      });
    });
    const pair = pairs.get(found.module) ?? { table: found.table };
    pair[found.factor] = { dtype, shape, data: widened(dtype, raw) };
    pairs.set(found.module, pair);
  }
  const way = layout ?? (whole.length > 0 ? "attached" : layoutOf([...pairs.values()]));
  const modules = [...pairs].map(([name, pair]): PeftModule => {
    const { a, b } = { a: read(pair.a, way), b: read(pair.b, way) };
    const rank = a?.shape[0] ?? 0;
    const both = a && b ? { a, b } : {};
    return moduleFrom(name, { ...both, table: pair.table }, { rank, alpha: rank, scale: 1 });
  });
  return { modules, whole };
}

function read(tensor: FloatTensor | undefined, layout: ParameterLayout): FloatTensor | undefined {
  return tensor && layout === "olive" ? turned(tensor) : tensor;
}

function turned({ dtype, shape, data }: FloatTensor): FloatTensor {
  if (shape.length !== 2) return { dtype, shape, data };
  return { dtype, shape: shape.toReversed(), data: transpose(data, shape) };
}

type Pairs = readonly { readonly a?: FloatTensor; readonly b?: FloatTensor }[];

/** One file has one layout: the first module whose shapes allow only one decides. */
function layoutOf(pairs: Pairs): ParameterLayout {
  const shapes = pairs.map(({ a, b }) => ({ a: a?.shape ?? [], b: b?.shape ?? [] }));
  for (const { a, b } of shapes) {
    if (a.length !== 2) return "attached";
    const [attached, olive] = [a[0] === b[1], a[1] === b[0]];
    if (attached !== olive) return attached ? "attached" : "olive";
  }
  return shapes.some(({ a }) => a[0]! < a[1]!) ? "attached" : "olive";
}

function noPlace(name: string, got: string): Fault {
  const todo = "With its base (--base) it is written for a graph that `tutti adapter attach` made";
  const expected = "factors of a linear weight";
  return new Fault("unsupported", `onnx_adapter, ${name}`, { expected, got, todo });
}
