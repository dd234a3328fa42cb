import { assert } from "@tutti/foundation/check";
import type { SeededRandom } from "@tutti/foundation/random";
import {
  type Attribute,
  type DType,
  float32,
  type Graph,
  type Node,
  sizeOf,
  type Tensor,
  type ValueInfo,
} from "../ir.ts";
import { int64, tensorOf } from "../tensor.ts";

export type Activation = "relu" | "tanh" | "sigmoid" | "gelu";

/** The operator of each activation. Gelu is one of its own since operator set 20. */
const ACTIVATION: Readonly<Record<Activation, string>> = {
  relu: "Relu",
  tanh: "Tanh",
  sigmoid: "Sigmoid",
  gelu: "Gelu",
};

/** All else is written for 17, which older runtimes load. */
const [OPSET, OPSET_GELU] = [17, 20];

type AttributeInit = number | string | readonly number[] | { readonly float: number };
type Attributes = Readonly<Record<string, AttributeInit>>;

/**
 * A model being written, node by node, with symbolic sizes: the builder of this folder, where `Builder`
 * wants static ones. Nodes are named as torch's exporter names them: module `encoder.layer.0.attention.query`
 * has node `/encoder/layer.0/attention/query/MatMul` and weights `<module>.weight` and `<module>.bias`.
 */
export class Sketch {
  readonly #random: SeededRandom;
  readonly #nodes: Node[] = [];
  readonly #initializers = new Map<string, Tensor>();
  readonly #names = new Set<string>();

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** A node of a module, and the name of its output: `as`, or one made of the node's. */
  op(
    operator: string,
    inputs: readonly string[],
    { module = "", attributes = {}, as, name = operator }: OpOptions = {},
  ): string {
    const path = this.#fresh(`${module === "" ? "" : `/${pathOf(module)}`}/${name}`);
    const output = as ?? `${path}_output_0`;
    const known = Object.entries(attributes).map(([key, init]) => [key, attribute(init)] as const);
    this.#nodes.push({
      ...{ op: operator, domain: "", name: path, inputs, outputs: [output] },
      ...{ attributes: new Map(known), metadata: new Map() },
    });
    return output;
  }

  constant(name: string, tensor: Tensor): string {
    assert(!this.#initializers.has(name), `sketch: ${name} is made once`);
    this.#initializers.set(name, tensor);
    return name;
  }

  /** An int64 vector, held once however many nodes read it. */
  ints(values: readonly number[]): string {
    const name = `ints.${values.join("_")}`;
    this.#initializers.set(name, int64(values));
    return name;
  }

  int(value: number): string {
    const name = `int.${value}`;
    this.#initializers.set(name, tensorOf("int64", [], [value]));
    return name;
  }

  number(value: number): string {
    const name = `number.${value}`;
    this.#initializers.set(name, float32([], Float32Array.of(value)));
    return name;
  }

  /**
   * Uniform in ±1/√fanIn: what torch's layers use for weight and bias, being Kaiming-uniform with slope √5
   * (He et al. 2015, equation 14).
   */
  uniform(name: string, shape: readonly number[], fanIn: number): string {
    const bound = 1 / Math.sqrt(fanIn);
    return this.#drawn(name, shape, () => (2 * this.#random.uniform() - 1) * bound);
  }

  /** Normal with this deviation; 0.02 is what BERT and GPT-2 begin with. */
  normal(name: string, shape: readonly number[], deviation: number): string {
    return this.#drawn(name, shape, () => this.#random.normal() * deviation);
  }

  filled(name: string, shape: readonly number[], value: number): string {
    return this.constant(name, float32(shape, new Float32Array(sizeOf(shape)).fill(value)));
  }

  /** x·W + b on the last axis of any rank: MatMul with W [in, out], then Add, as torch's exporter has it. */
  linear(module: string, x: string, { fanIn, fanOut, as }: LinearOptions): string {
    const weight = this.uniform(`${module}.weight`, [fanIn, fanOut], fanIn);
    const bias = this.uniform(`${module}.bias`, [fanOut], fanIn);
    const product = this.op("MatMul", [x, weight], { module });
    return this.op("Add", [product, bias], { module, ...(as === undefined ? {} : { as }) });
  }

  /** x·Wᵀ + b of a matrix: Gemm with W [out, in]. */
  gemm(module: string, x: string, { fanIn, fanOut, as }: LinearOptions): string {
    const weight = this.uniform(`${module}.weight`, [fanOut, fanIn], fanIn);
    const bias = this.uniform(`${module}.bias`, [fanOut], fanIn);
    const attributes = { transB: 1 };
    return this.op("Gemm", [x, weight, bias], { module, attributes, ...(as === undefined ? {} : { as }) });
  }

  activation(module: string, x: string, activation: Activation): string {
    return this.op(ACTIVATION[activation], [x], { module, name: "activation" });
  }

  finish(name: string, ends: Ends): Graph {
    const gelu = this.#nodes.some(({ op }) => op === "Gelu");
    return {
      ...{ name, opset: gelu ? OPSET_GELU : OPSET, ...ends },
      ...{ initializers: this.#initializers, nodes: this.#nodes },
    };
  }

  #drawn(name: string, shape: readonly number[], draw: () => number): string {
    return this.constant(name, float32(shape, Float32Array.from({ length: sizeOf(shape) }, draw)));
  }

  /** Node names are told apart as torch does: MatMul, MatMul_1, … */
  #fresh(wanted: string): string {
    let name = wanted;
    for (let count = 1; this.#names.has(name); count++) name = `${wanted}_${count}`;
    this.#names.add(name);
    return name;
  }
}

type Ends = { readonly inputs: readonly ValueInfo[]; readonly outputs: readonly ValueInfo[] };

type OpOptions = {
  /** Dotted name of the module the node belongs to. */
  readonly module?: string;
  readonly attributes?: Attributes;
  /** Name of the output. */
  readonly as?: string;
  /** Last part of the node's name, where it is not the operator's. */
  readonly name?: string;
};

type LinearOptions = { readonly fanIn: number; readonly fanOut: number; readonly as?: string };

/** `layer.0` is one part of a path, the number being a place in a list; other dots part the modules. */
function pathOf(module: string): string {
  return module.replace(/\.(?!\d+(?:\.|$))/g, "/");
}

export function info(name: string, dtype: DType, shape: ValueInfo["shape"]): ValueInfo {
  return { name, dtype, shape };
}

function attribute(init: AttributeInit): Attribute {
  if (typeof init === "string") return { kind: "string", value: init };
  if (typeof init === "number") return { kind: "int", value: init };
  return "float" in init ? { kind: "float", value: init.float } : { kind: "ints", value: init };
}
