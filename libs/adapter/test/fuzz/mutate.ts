import type { SeededRandom } from "@tutti/foundation/random";
import { decode, encode } from "@tutti/wire/message";
import { type ModelProto, ModelProtoSchema, type NodeProto, type TensorProto } from "@tutti/wire/onnx";

/** Changed bytes, and how they were changed, for whoever has to find out why. */
export type Mutant = { readonly bytes: Uint8Array; readonly how: string };

/** Numbers that break arithmetic. */
const EVIL = [0, 1, -1, 2, 127, 128, 255, 256, 65_536, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 53];

const pick = <T>(random: SeededRandom, from: readonly T[]): T => from[random.below(from.length)]!;

type Change = (bytes: Uint8Array, random: SeededRandom) => Mutant;

/** Damage that knows nothing of the format. */
const BLIND: readonly Change[] = [
  function flip(bytes, random) {
    const [at, bit] = [random.below(bytes.length), random.below(8)];
    return { bytes: bytes.with(at, bytes[at]! ^ (1 << bit)), how: `bit ${bit} of byte ${at}` };
  },
  function set(bytes, random) {
    const [at, value] = [random.below(bytes.length), pick(random, [0, 1, 0x7f, 0x80, 0xff])];
    return { bytes: bytes.with(at, value), how: `byte ${at} = ${value}` };
  },
  function cut(bytes, random) {
    const end = random.below(bytes.length);
    return { bytes: bytes.slice(0, end), how: `first ${end} bytes` };
  },
  function take(bytes, random) {
    const [from, count] = [random.below(bytes.length), 1 + random.below(64)];
    return { bytes: without(bytes, from, count), how: `without ${count} bytes at ${from}` };
  },
  function repeat(bytes, random) {
    const [from, count] = [random.below(bytes.length), 1 + random.below(64)];
    const part = bytes.slice(from, from + count);
    return {
      bytes: joined(bytes.slice(0, from), part, bytes.slice(from)),
      how: `${count} bytes at ${from} twice`,
    };
  },
  function splice(bytes, random) {
    const [from, to, count] = [random.below(bytes.length), random.below(bytes.length), 1 + random.below(64)];
    const out = bytes.slice();
    out.set(bytes.slice(from, from + count).subarray(0, out.length - to), to);
    return { bytes: out, how: `${count} bytes from ${from} over ${to}` };
  },
];

function without(bytes: Uint8Array, from: number, count: number): Uint8Array {
  return joined(bytes.slice(0, from), bytes.slice(from + count));
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** One to four blind changes. */
export function blindMutant(bytes: Uint8Array, random: SeededRandom): Mutant {
  let mutant: Mutant = { bytes, how: "" };
  for (let left = 1 + random.below(4); left > 0 && mutant.bytes.length > 0; left--) {
    const next = pick(random, BLIND)(mutant.bytes, random);
    mutant = { bytes: next.bytes, how: `${mutant.how}; ${next.how}`.replace(/^; /, "") };
  }
  return mutant;
}

type Edit = (model: ModelProto, random: SeededRandom) => string;

const aNode = (model: ModelProto, random: SeededRandom): NodeProto => pick(random, model.graph!.node);
const aTensor = (model: ModelProto, random: SeededRandom): TensorProto | undefined =>
  model.graph!.initializer[random.below(Math.max(1, model.graph!.initializer.length))];

function names(model: ModelProto): string[] {
  const { node, input, initializer } = model.graph!;
  return [
    "",
    "nowhere",
    ...node.flatMap(({ output }) => output),
    ...[...input, ...initializer].map(({ name }) => name),
  ];
}

/** Operators a node may be turned into, whatever its inputs. */
const OPS = (
  "Add Conv Gemm MatMul Reshape Slice Gather GatherND ScatterND Pad Expand Tile Range Resize " +
  "ConstantOfShape " +
  "Transpose Split Concat Softmax LSTM GRU Einsum TopK If Loop Scan Cast QuantizeLinear Attention OneHot " +
  "BatchNormalization LayerNormalization AveragePool MaxPool ConvTranspose CumSum Where Squeeze Unsqueeze"
).split(" ");

/** Damage that a checker has to see, since the file decodes: one thing of the message is changed. */
const EDITS: readonly Edit[] = [
  function rewire(model, random) {
    const node = aNode(model, random);
    if (node.input.length === 0) return "";
    const [at, to] = [random.below(node.input.length), pick(random, names(model))];
    node.input[at] = to;
    return `${node.opType} ${node.name} reads ${to} as input ${at}`;
  },
  function rename(model, random) {
    const node = aNode(model, random);
    if (node.output.length === 0) return "";
    const to = pick(random, names(model));
    node.output[random.below(node.output.length)] = to;
    return `${node.opType} ${node.name} gives out ${to}`;
  },
  function arity(model, random) {
    const node = aNode(model, random);
    if (random.below(2) === 0) node.input.push(pick(random, names(model)));
    else node.input.pop();
    return `${node.opType} ${node.name} has ${node.input.length} inputs`;
  },
  function operator(model, random) {
    const node = aNode(model, random);
    const [was, is] = [node.opType, pick(random, [...OPS, "Nonsense"])];
    node.opType = is;
    return `${was} ${node.name} is now ${is}`;
  },
  function domain(model, random) {
    const node = aNode(model, random);
    node.domain = pick(random, ["", "ai.onnx", "com.microsoft", "ai.onnx.ml", "my.own"]);
    return `${node.opType} ${node.name} of domain ${node.domain}`;
  },
  function attribute(model, random) {
    const node = aNode(model, random);
    if (node.attribute.length === 0) return "";
    const attribute = pick(random, node.attribute);
    const value = pick(random, EVIL);
    attribute.i = BigInt(value);
    if (attribute.ints.length > 0) attribute.ints[random.below(attribute.ints.length)] = BigInt(value);
    if (random.below(4) === 0) attribute.ints.push(BigInt(value));
    if (random.below(6) === 0) attribute.type = random.below(12);
    if (random.below(8) === 0) attribute.name = "surprise";
    return `${node.opType} ${node.name}, attribute ${attribute.name} with ${value}, type ${attribute.type}`;
  },
  function dims(model, random) {
    const tensor = aTensor(model, random);
    if (!tensor) return "";
    const value = BigInt(pick(random, EVIL));
    if (tensor.dims.length === 0 || random.below(4) === 0) tensor.dims.push(value);
    else tensor.dims[random.below(tensor.dims.length)] = value;
    return `initializer ${tensor.name} of [${tensor.dims}]`;
  },
  function type(model, random) {
    const tensor = aTensor(model, random);
    if (!tensor) return "";
    tensor.dataType = pick(random, [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 16, 21, 22, 99]);
    return `initializer ${tensor.name} of type ${tensor.dataType}`;
  },
  function values(model, random) {
    const tensor = aTensor(model, random);
    if (!tensor) return "";
    if (tensor.rawData.length === 0)
      tensor.int64Data = tensor.int64Data.map(() => BigInt(pick(random, EVIL)));
    const view = new DataView(tensor.rawData.buffer, tensor.rawData.byteOffset, tensor.rawData.byteLength);
    if (view.byteLength >= 8)
      view.setBigInt64(random.below(Math.floor(view.byteLength / 8)) * 8, BigInt(pick(random, EVIL)), true);
    return `a value of initializer ${tensor.name}`;
  },
  function external(model, random) {
    const tensor = aTensor(model, random);
    if (!tensor) return "";
    tensor.dataLocation = 1;
    return `initializer ${tensor.name} is external`;
  },
  function inputShape(model, random) {
    const type = pick(random, model.graph!.input).type?.value;
    if (type?.case !== "tensorType") return "";
    const dim = type.value.shape?.dim ?? [];
    const value = BigInt(pick(random, EVIL));
    for (const one of dim) if (random.below(2) === 0) one.value = { case: "dimValue", value };
    return `an input with sizes ${value}`;
  },
  function lose(model, random) {
    const node = aNode(model, random);
    model.graph!.node.splice(model.graph!.node.indexOf(node), 1);
    return `without ${node.opType} ${node.name}`;
  },
  function opset(model, random) {
    for (const opset of model.opsetImport)
      opset.version = BigInt(pick(random, [0, 1, 6, 7, 9, 11, 13, 18, 23, 28, 99]));
    return `operator set ${model.opsetImport.map(({ version }) => version)}`;
  },
];

/**
 * Damage that the reader cannot see: numbers that only mean something once a node reads them. Values keep
 * their names and count, inputs go to values made before them.
 */
const QUIET: readonly Edit[] = [
  ...EDITS.filter(({ name }) => ["attribute", "operator", "values", "inputShape"].includes(name)),
  function rewireBack(model, random) {
    const { node, input, initializer } = model.graph!;
    const at = random.below(node.length);
    const one = node[at]!;
    if (one.input.length === 0) return "";
    const before = [...node.slice(0, at).flatMap(({ output }) => output), ...input.map(({ name }) => name)];
    const to = pick(random, [...before, ...initializer.map(({ name }) => name)]);
    const index = random.below(one.input.length);
    one.input[index] = to;
    return `${one.opType} ${one.name} reads ${to} as input ${index}`;
  },
  function reshape(model, random) {
    const tensor = aTensor(model, random);
    if (!tensor) return "";
    tensor.dims = pick(random, [[...tensor.dims].reverse(), [...tensor.dims, 1n], [1n, ...tensor.dims]]);
    return `initializer ${tensor.name} of [${tensor.dims}]`;
  },
  function number(model, random) {
    const node = aNode(model, random);
    const numbers = node.attribute.filter(({ type, ints }) => type === 2 || ints.length > 0);
    if (numbers.length === 0) return "";
    const attribute = pick(random, numbers);
    const value = BigInt(random.below(7) - 3);
    if (attribute.ints.length > 0) attribute.ints[random.below(attribute.ints.length)] = value;
    else attribute.i = value;
    return `${node.opType} ${node.name}, attribute ${attribute.name} with ${value}`;
  },
];

/** A model with one to three changes that it still reads with, as a rule. */
export const quietMutant: Change = (bytes, random) => edited(bytes, random, QUIET);

/** A model with one to three things of its message changed; it decodes. */
export const editedModel: Change = (bytes, random) => edited(bytes, random, EDITS);

function edited(bytes: Uint8Array, random: SeededRandom, edits: readonly Edit[]): Mutant {
  const model = decode(ModelProtoSchema, bytes.slice(), 2 ** 30, { unknown: "keep" });
  const how: string[] = [];
  for (let left = 1 + random.below(3); left > 0; left--) how.push(pick(random, edits)(model, random));
  return { bytes: encode(ModelProtoSchema, model), how: how.filter((text) => text !== "").join("; ") };
}
