import type { SeededRandom } from "@tutti/foundation/random";
import { knownOperators } from "../../src/infer/infer.ts";
import { signatureOf } from "../../src/infer/signatures.ts";
import { type Attribute, type DType, type Graph, type Node, sizeOf, type Tensor } from "../../src/ir.ts";
import { tensorOf } from "../../src/tensor.ts";

const OPERATORS = knownOperators();

const DTYPES: readonly DType[] = ["float32", "float64", "float16", "int64", "int32", "uint8", "int8", "bool"];
const OPSETS = [7, 9, 10, 11, 13, 17, 18, 20, 21, 23, 24, 28];

/** Numbers where sizes, axes and positions stand: mostly such as might be meant, some that nobody means. */
const LIKELY = [0, 1, 1, 1, 2, 2, 3, 4, -1, -1, -2];
const EVIL = [5, 127, -128, 255, 65_536, 2 ** 31 - 1, -(2 ** 31), 2 ** 40, Number.MAX_SAFE_INTEGER];

/** Words that attributes of text know, over all operators. */
const WORDS = (
  "constant reflect edge wrap NOTSET SAME_UPPER SAME_LOWER VALID forward reverse bidirectional none tanh " +
  "mean sum add mul min max nearest linear cubic bilinear half_pixel align_corners asymmetric zeros border " +
  "tf_crop_and_resize floor round_prefer_floor LEFT DCR CRD Relu Sigmoid avg not_larger ij,jk->ik ...i->i " +
  "bi,bj i->ii ->"
).split(" ");

const pick = <T>(random: SeededRandom, from: readonly T[]): T => from[random.below(from.length)]!;
const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);

const integer = (random: SeededRandom): number => pick(random, random.below(12) === 0 ? EVIL : LIKELY);

const shapeOf = (random: SeededRandom): number[] =>
  times(random.below(5), () => pick(random, [0, 1, 1, 2, 2, 2, 3, 4, 4, 6, 8]));

/**
 * A model of one node of a random operator that Tutti knows: inputs, types, shapes and attributes as its
 * signature names them, but else at random, so that most do not fit together.
 */
export function drawnNode(random: SeededRandom): Graph {
  const { op, domain } = pick(random, OPERATORS);
  const { fewest, most, holds, attributes } = signatureOf({ op, domain })!;
  const integers = holds.filter(([, kind]) => kind === "#").map(([index]) => index);
  const truths = holds.filter(([, kind]) => kind === "?").map(([index]) => index);
  const count = fewest + random.below(Math.min(most, fewest + 3) - fewest + 1);
  const [base, dtype] = [shapeOf(random), pick(random, random.below(3) === 0 ? DTYPES : DTYPES.slice(0, 1))];
  const inputs = times(count, () => "").map((_, index): Drawn => {
    if (index >= fewest && random.below(4) === 0) return { name: "", held: false, tensor: scalar };
    const whole = integers.includes(index);
    const tensor = whole
      ? indices(random, base)
      : like(random, base, truths.includes(index) ? "bool" : dtype);
    return { name: `x${index}`, held: random.below(whole ? 8 : 2) !== 0, tensor };
  });
  const given = [...attributes].filter(() => random.below(2) === 0);
  const outputs = times(random.below(3) === 0 ? 1 + random.below(3) : 1, () => "").map((_, i) => `y${i}`);
  const node: Node = {
    ...{ op, domain, name: "it", outputs, metadata: new Map() },
    inputs: inputs.map(({ name }) => name),
    attributes: new Map(given.map((name) => [name, attributeOf(random, name)])),
  };
  return graphOf(node, inputs, pick(random, OPSETS));
}

type Drawn = { readonly name: string; readonly held: boolean; readonly tensor: Tensor };

const scalar = tensorOf("float32", [], [0]);

function graphOf(node: Node, inputs: readonly Drawn[], opset: number): Graph {
  const named = inputs.filter(({ name }) => name !== "");
  return {
    ...{ name: "one", opset, nodes: [node] },
    inputs: named
      .filter(({ held }) => !held)
      .map(({ name, tensor: { dtype, shape } }) => ({ name, dtype, shape })),
    initializers: new Map(named.filter(({ held }) => held).map(({ name, tensor }) => [name, tensor])),
    outputs: node.outputs.map((name) => ({ name, dtype: "float32", shape: null })),
  };
}

/** Integers that may be axes, sizes, repeats, bounds or indices. */
function indices(random: SeededRandom, base: readonly number[]): Tensor {
  const shape = pick(random, [[base.length], [base.length], [1], [2], [], [2 * base.length], base]);
  const values = times(sizeOf(shape), () => integer(random));
  return tensorOf(pick(random, ["int64", "int64", "int64", "int32", "uint8"] as const), shape, values);
}

/** A tensor that goes with others of shape `base`, as a rule. */
function like(random: SeededRandom, base: readonly number[], dtype: DType): Tensor {
  const shape = pick(random, [
    ...[base, base, base, base.slice(1), base.slice(-1), [...base].reverse(), [base[1] ?? 1], []],
    ...[base.map((size) => (random.below(2) === 0 ? size : 1)), shapeOf(random)],
  ]);
  const type = random.below(8) === 0 ? pick(random, DTYPES) : dtype;
  const values = times(sizeOf(shape), () => pick(random, [-1, 0, 1, 2, 3, 0.5]));
  return tensorOf(type, shape, type === "bool" ? values.map((x) => (x > 0 ? 1 : 0)) : values);
}

/** Names that tell the kind of their value; others may be of any kind. */
const KINDS: readonly (readonly [RegExp, Attribute["kind"]])[] = [
  [/^(pads|strides|dilations|kernel_shape|perm|axes|output_shape|output_padding|split|shape)$/, "ints"],
  [/^(auto_pad|mode|direction|reduction|equation|approximate|.*_mode|.*_policy)$/, "string"],
  [/^(epsilon|alpha|beta|gamma|scale|softcap|momentum|bias|lambd|clip|.*_value|.*_coeff_a)$/, "float"],
  [/^(scales|activation_alpha|activation_beta)$/, "floats"],
  [/^(activations)$/, "strings"],
  [/^(value)$/, "tensor"],
];

const ANY = ["int", "float", "string", "ints", "floats", "strings", "tensor"] as const;

function attributeOf(random: SeededRandom, name: string): Attribute {
  const meant = KINDS.find(([pattern]) => pattern.test(name))?.[1] ?? "int";
  return drawnValue(random, random.below(15) === 0 ? pick(random, ANY) : meant);
}

function drawnValue(random: SeededRandom, kind: Attribute["kind"]): Attribute {
  const count = random.below(5);
  const real = () => pick(random, [0, 0.5, 1, 1, 2, -1, 1e-5, 1e30, Number.NaN, Number.POSITIVE_INFINITY]);
  switch (kind) {
    case "int":
      return { kind, value: integer(random) };
    case "float":
      return { kind, value: Math.fround(real()) };
    case "string":
      return { kind, value: pick(random, WORDS) };
    case "ints":
      return { kind, value: times(count, () => integer(random)) };
    case "floats":
      return { kind, value: times(count, () => Math.fround(real())) };
    case "strings":
      return { kind, value: times(count, () => pick(random, WORDS)) };
    default:
      return { kind: "tensor", value: like(random, [1], pick(random, DTYPES)) };
  }
}

/** The case in one line, for whoever has to find out why. */
export function told({ opset, nodes, inputs, initializers }: Graph): string {
  const node = nodes[0]!;
  const written = node.inputs.map((name) => {
    const held = initializers.get(name);
    const { dtype, shape } = held ?? inputs.find((input) => input.name === name) ?? { dtype: "-", shape: [] };
    return `${dtype}[${shape}]${held ? `=${String(held.data).slice(0, 60)}` : ""}`;
  });
  const attributes = [...node.attributes].map(([name, { kind, value }]) => {
    if (typeof value !== "object" || Array.isArray(value)) return `${name}:${kind}=${value}`;
    const tensor = value as Tensor;
    return `${name}:${tensor.dtype}[${tensor.shape}]`;
  });
  const who = `${node.domain}.${node.op} (${opset})`;
  return `${who} ${written.join(", ")} {${attributes.join(", ")}} → ${node.outputs.length}`;
}
