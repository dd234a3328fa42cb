import { checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import { type Attribute, float32, type Graph, type Node, type Tensor } from "../ir.ts";

export type Activation = "relu" | "tanh" | "sigmoid" | "gelu";

export type MlpOptions = {
  /** Features per example. */
  readonly inputs: number;
  /** Width of each hidden layer; none makes a linear model. */
  readonly hidden: readonly number[];
  readonly outputs: number;
  readonly activation?: Activation;
  readonly random: SeededRandom;
  /** Subtracted from and divided into each feature, as constants of the graph: [inputs] each. */
  readonly normalise?: { readonly mean: readonly number[]; readonly std: readonly number[] };
  readonly inputName?: string;
  readonly outputName?: string;
  /** Module name of linear layer i; `layers.<i>` unless told. Adapters find their targets by it. */
  readonly names?: (layer: number) => string;
};

/** Gelu is an operator of its own since 20; all else is written for 17, which older runtimes load. */
const [OPSET, OPSET_GELU] = [17, 20];
const MAX_WIDTH = 1 << 20;

/**
 * A multi-layer perceptron [batch, inputs] → [batch, outputs] (logits: no activation after the last layer),
 * with a symbolic batch. Each linear layer is `Gemm` with transB = 1, its initializers `<module>.weight`
 * [out, in] and `<module>.bias` [out], its node `/<module>/Gemm`: the names torch's exporter would give.
 */
export function mlp(options: MlpOptions): Graph {
  const { activation = "relu", names = (layer) => `layers.${layer}`, random } = options;
  const [inputName, outputName] = [options.inputName ?? "x", options.outputName ?? "logits"];
  const widths = [options.inputs, ...options.hidden, options.outputs];
  for (const width of widths) checkInteger("mlp: width of a layer", width, [1, MAX_WIDTH]);
  const start = normalised(options, inputName);
  const initializers = new Map(start.initializers);
  const nodes = [...start.nodes];
  let value = start.output;
  for (let layer = 0; layer + 1 < widths.length; layer++) {
    const [fanIn, fanOut, name] = [widths[layer]!, widths[layer + 1]!, names(layer)];
    const last = layer + 2 === widths.length;
    initializers.set(`${name}.weight`, uniform([fanOut, fanIn], fanIn, random));
    initializers.set(`${name}.bias`, uniform([fanOut], fanIn, random));
    const linear = last ? outputName : `/${name}/Gemm_output_0`;
    nodes.push(gemm(name, value, linear));
    if (last) break;
    value = `/${name}/activation_output_0`;
    nodes.push(
      node({ op: OPERATOR[activation], name: `/${name}/activation`, inputs: [linear], outputs: [value] }),
    );
  }
  return {
    name: "mlp",
    opset: activation === "gelu" ? OPSET_GELU : OPSET,
    inputs: [{ name: inputName, dtype: "float32", shape: ["batch", options.inputs] }],
    outputs: [{ name: outputName, dtype: "float32", shape: ["batch", options.outputs] }],
    initializers,
    nodes,
  };
}

const OPERATOR: Record<Activation, string> = { relu: "Relu", tanh: "Tanh", sigmoid: "Sigmoid", gelu: "Gelu" };

type Start = { initializers: readonly (readonly [string, Tensor])[]; nodes: readonly Node[]; output: string };

function normalised({ normalise, inputs }: MlpOptions, input: string): Start {
  if (!normalise) return { initializers: [], nodes: [], output: input };
  const { mean, std } = normalise;
  demand(
    mean.length === inputs && std.length === inputs && std.every((value) => value > 0),
    () =>
      new Fault("bad-input", "mlp: normalise", {
        expected: `${inputs} means and ${inputs} positive deviations`,
        got: `${mean.length} and ${std.length}`,
      }),
  );
  const [centred, output] = ["/normalise/Sub_output_0", "/normalise/Div_output_0"];
  return {
    initializers: [
      ["normalise.mean", float32([inputs], Float32Array.from(mean))],
      ["normalise.std", float32([inputs], Float32Array.from(std))],
    ],
    nodes: [
      node({ op: "Sub", name: "/normalise/Sub", inputs: [input, "normalise.mean"], outputs: [centred] }),
      node({ op: "Div", name: "/normalise/Div", inputs: [centred, "normalise.std"], outputs: [output] }),
    ],
    output,
  };
}

function gemm(module: string, input: string, output: string): Node {
  const inputs = [input, `${module}.weight`, `${module}.bias`];
  const transB = new Map<string, Attribute>([["transB", { kind: "int", value: 1 }]]);
  return node({ op: "Gemm", name: `/${module}/Gemm`, inputs, outputs: [output], attributes: transB });
}

type Bare = Pick<Node, "op" | "name" | "inputs" | "outputs"> & Partial<Pick<Node, "attributes">>;

function node(bare: Bare): Node {
  return { domain: "", attributes: new Map(), metadata: new Map(), ...bare };
}

/**
 * Uniform in ±1/√fanIn: what torch's Linear uses for weight and bias, being Kaiming-uniform with slope √5
 * (He et al. 2015, equation 14).
 */
function uniform(shape: readonly number[], fanIn: number, random: SeededRandom): Tensor {
  const bound = 1 / Math.sqrt(fanIn);
  const size = shape.reduce((product, width) => product * width, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => (2 * random.uniform() - 1) * bound),
  );
}
