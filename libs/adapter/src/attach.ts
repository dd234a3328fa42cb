import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { float32, type Tensor, type Tensors } from "@tutti/graph/ir";
import { writeValueInfo } from "@tutti/graph/onnx/value-info";
import type { Model } from "@tutti/graph/read";
import { encode } from "@tutti/wire/message";
import { ValueInfoProtoSchema } from "@tutti/wire/onnx";
import { type AdapterTensors, checkBase, checkTensors } from "./change.ts";
import { FLOAT } from "./file/map.ts";
import { FileNodes } from "./file/nodes.ts";
import { checkedBase, recordOf, rewritten } from "./file/rewrite.ts";
import { endsOf } from "./find/ends.ts";
import {
  asFactors,
  type Emitter,
  fromFloat32,
  isLeft,
  readsIds,
  sidePath,
  sum,
  summedWeight,
} from "./side-path.ts";
import { type AdaptedModule, factorSpecs, type ResolvedAdapter, type SavedTensor, type Use } from "./spec.ts";
import { floatProduct, floatsOf, productOf, turnedFor } from "./whole.ts";

/**
 * The base file with the adapter's place beside it: every tensor and node of the base keeps its bytes, except
 * that a node whose result a side path joins gives it under a new name. The factors are required float32
 * inputs of the graph under their names, A [r_n, in, …] and B [out, r_n, 1…], with a rank of its own for each
 * module, which may be 0; a saved tensor is the required float32 input `<name>.saved`, of its shape, cast to
 * what the base computes in; a quantised product around its weight gives way to one in floats. So one session
 * serves any adapter of these targets, of whatever ranks and alphas: `attachedFeeds` puts the scale into B,
 * and at rank 0 (`emptyFeeds`) the side path adds zero. Weights kept in other files are not read; the result
 * names those files as the base does.
 * @throws Fault("refused") when `bytes` are not the base that was resolved; Fault("conflict") when a value of
 * the base has the name of an input; Fault("unsupported") for a node that is not what resolve saw.
 */
export function attach(bytes: Uint8Array, adapter: ResolvedAdapter): Uint8Array {
  checkBase("attach", bytes, adapter);
  const file = new FileNodes(bytes);
  for (const module of adapter.modules) {
    const [a, b] = factorSpecs(module);
    for (const use of module.uses) attachUse(file, { module, use, a: a.name, b: b.name });
  }
  for (const saved of adapter.saved) attachSaved(file, saved);
  const inputs = inputsOf(adapter).map(({ name, shape }) => {
    demand(!file.has(name), () => {
      return new Fault("conflict", `attached input ${name}`, { expected: "a name the base does not have" });
    });
    return encode(ValueInfoProtoSchema, writeValueInfo({ name, dtype: "float32", shape }));
  });
  const { baseSha256 } = adapter;
  const changes = { nodes: file.changes, inputs, initializers: file.initializers };
  return rewritten(bytes, file.map, { kind: "attached", baseSha256, changes });
}

/**
 * The base that `attach` was given, byte for byte.
 * @throws Fault("bad-input") for a file without a record of an attachment; Fault("refused") when the file was
 * changed since.
 */
export function detach(bytes: Uint8Array): Uint8Array {
  const found = recordOf(bytes);
  demand(found?.record.kind === "attached", () => {
    const got = "no record of one, or one that another program dropped";
    return new Fault("bad-input", "detach", { expected: "a model with an adapter attached", got });
  });
  return checkedBase(found);
}

/** The SHA-256 of the base inside an attached file; undefined for any other file. */
export function attachedBase(bytes: Uint8Array): string | undefined {
  const record = recordOf(bytes)?.record;
  return record?.kind === "attached" ? record.baseSha256 : undefined;
}

/**
 * What to feed an attached model beside the base's own inputs, so that it answers as the merged one: A as it
 * is, B times the scale, saved tensors whole.
 * @throws Fault("bad-input") for a tensor that is missing or of another size.
 */
export function attachedFeeds(adapter: ResolvedAdapter, tensors: AdapterTensors): Tensors {
  checkTensors("attached feeds", adapter, tensors);
  const factors = adapter.modules.flatMap((module) => {
    const [a, b] = factorSpecs(module);
    const scaled = tensors.get(b.name)!.map((value) => value * module.scale);
    return [
      [a.name, float32(a.shape, tensors.get(a.name)!)],
      [b.name, float32(b.shape, scaled)],
    ] as const;
  });
  const whole = adapter.saved.map(({ name, shape }) => {
    return [savedInput(name), float32(shape, tensors.get(name)!)] as const;
  });
  return new Map<string, Tensor>([...factors, ...whole]);
}

/**
 * What to feed an attached model so that it answers as its base: factors of rank 0, and the base's own values
 * (dequantised) for saved tensors, which need `model`. Bit for bit, unless onnxruntime multiplies integers
 * where the base holds a saved tensor's levels: fed floats it does not, so the answer differs by what the
 * grid of that product's input rounds off.
 * @throws Fault("bad-input") for saved tensors without the model, or with another one.
 */
export function emptyFeeds(adapter: ResolvedAdapter, model?: Pick<Model, "graph">): Tensors {
  const factors = adapter.modules.flatMap((module) =>
    factorSpecs({ ...module, rank: 0 }).map(({ name, shape }) => {
      return [name, float32(shape, new Float32Array(0))] as const;
    }),
  );
  const whole = adapter.saved.map((saved) => {
    const { name, shape } = saved;
    const values = model && floatsOf(model.graph, saved);
    if (values) return [savedInput(name), float32(shape, values)] as const;
    const todo = "Give the base model, read";
    throw new Fault("bad-input", `empty feeds: ${name}`, { expected: "the base's values", todo });
  });
  return new Map<string, Tensor>([...factors, ...whole]);
}

/** A saved tensor often has the name of the base's own initializer, which stays where it is. */
function savedInput(name: string): string {
  return `${name}.saved`;
}

/** The saved tensor that an input of this name is for; undefined for other inputs. */
export function savedName(input: string): string | undefined {
  return /^(.+)\.saved$/s.exec(input)?.[1];
}

type Input = { readonly name: string; readonly shape: readonly (number | string)[] };

/** Ranks are symbols of their own, so that onnxruntime checks that A and B of a module fit together. */
function inputsOf({ modules, saved }: ResolvedAdapter): readonly Input[] {
  const factors = modules.flatMap((module, n): Input[] => {
    const [a, b] = factorSpecs(module);
    return [
      { name: a.name, shape: [`r_${n}`, ...a.shape.slice(1)] },
      { name: b.name, shape: [b.shape[0]!, `r_${n}`, ...b.shape.slice(2)] },
    ];
  });
  return [...factors, ...saved.map(({ name, shape }) => ({ name: savedInput(name), shape }))];
}

type Attached = {
  readonly module: AdaptedModule;
  readonly use: Use;
  readonly a: string;
  readonly b: string;
};

/**
 * The side path computes in the base's own type: onnxruntime runs halves as float32 wherever all readers of a
 * value would, so a reader that asked for float32 would change how the base itself is computed.
 */
function attachUse(file: FileNodes, { module, use, ...factors }: Attached): void {
  const node = file.node(use.node, module.module);
  const ends = endsOf(node, use.input, file.wires);
  assert(ends, `adapter of ${module.module}: the node is the one that resolve took`);
  const type = file.computeType(node, use.input);
  const target = (build: Emitter) => {
    const wide = module.kind === "conv" ? widerByOne(file, module, factors) : factors;
    const [a, b] = [wide.a, wide.b].map((name) => fromFloat32(build, name, type)) as [string, string];
    return { module, use, node, a, b };
  };
  // onnxruntime 1.30 leaves all but the first of a batch of empty products undefined: B [out, 0] may not be
  // the left operand of a batch.
  if (ends.way === "sum-weight" || isLeft({ node, use })) {
    file.replace(
      use,
      file.before(use.node, (build) => summedWeight(build, target(build), undefined)),
    );
    return;
  }
  const { reads, adds } = ends;
  file.join(adds.name, (build, own) => {
    const x = readsIds(node) ? reads.name : asFactors(build, reads, undefined);
    const delta = sidePath(build, target(build), x);
    return sum(build, { ...adds, name: own }, { name: delta, type: undefined });
  });
}

/**
 * A convolution's factors with one rank more, of zeros: onnxruntime 1.30 leaves what a convolution of no
 * channels gives undefined.
 */
function widerByOne(
  file: FileNodes,
  module: AdaptedModule,
  { a, b }: Pick<Attached, "a" | "b">,
): Pick<Attached, "a" | "b"> {
  const [rowOfA, columnOfB] = factorSpecs({ ...module, rank: 1 });
  return {
    a: file.emit("Concat", [a, file.zeros(rowOfA.shape)], { axis: 0 }),
    b: file.emit("Concat", [b, file.zeros(columnOfB.shape)], { axis: 1 }),
  };
}

/**
 * In the type that the node reads. Integer arithmetic stays in the file, under a name that nothing reads, so
 * that every node of the base keeps its bytes.
 */
function attachSaved(file: FileNodes, { name, uses }: SavedTensor): void {
  const input = savedInput(name);
  for (const use of uses) {
    const node = file.node(use.node, name);
    const product = productOf(node, use.input, file.wires);
    if (product) {
      const type = file.computeType(node, use.input);
      file.join(product.gives, (build) => {
        return floatProduct(build, product, { weight: turnedFor(build, use, input), type });
      });
      continue;
    }
    const type = file.typeOf(node.inputs[use.input]!);
    if (!use.transposed && type === FLOAT) file.replace(use, input);
    else {
      const operand = (build: Emitter) => fromFloat32(build, turnedFor(build, use, input), type);
      file.replace(use, file.before(use.node, operand));
    }
  }
}
