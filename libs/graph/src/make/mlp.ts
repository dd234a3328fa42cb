import { checkInteger, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import { float32, type Graph } from "../ir.ts";
import { type Activation, info, Sketch } from "./sketch.ts";

export type { Activation } from "./sketch.ts";

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
  /** Module name of linear layer i; `layers.<i>` by default. Adapters find their targets by it. */
  readonly names?: (layer: number) => string;
};

const MAX_WIDTH = 1 << 20;

/**
 * A multi-layer perceptron [batch, inputs] → [batch, outputs] (logits: no activation after the last layer),
 * with a symbolic batch. Each linear layer is `Gemm` with transB = 1, its initializers `<module>.weight`
 * [out, in] and `<module>.bias` [out], its node `/<module>/Gemm`: the names torch's exporter would give.
 */
export function mlp(options: MlpOptions): Graph {
  const { activation = "relu", names = (layer) => `layers.${layer}` } = options;
  const [inputName, outputName] = [options.inputName ?? "x", options.outputName ?? "logits"];
  const widths = [options.inputs, ...options.hidden, options.outputs];
  for (const width of widths) checkInteger("mlp: width of a layer", width, [1, MAX_WIDTH]);
  const sketch = new Sketch(options.random);
  let value = normalised(sketch, inputName, options);
  for (let layer = 0; layer + 1 < widths.length; layer++) {
    const [fanIn, fanOut, module] = [widths[layer]!, widths[layer + 1]!, names(layer)];
    const last = layer + 2 === widths.length;
    value = sketch.gemm(module, value, { fanIn, fanOut, ...(last ? { as: outputName } : {}) });
    if (!last) value = sketch.activation(module, value, activation);
  }
  return sketch.finish("mlp", {
    inputs: [info(inputName, "float32", ["batch", options.inputs])],
    outputs: [info(outputName, "float32", ["batch", options.outputs])],
  });
}

function normalised(sketch: Sketch, input: string, { normalise, inputs }: MlpOptions): string {
  if (!normalise) return input;
  const { mean, std } = normalise;
  demand(
    mean.length === inputs && std.length === inputs && std.every((value) => value > 0),
    () =>
      new Fault("bad-input", "mlp: normalise", {
        expected: `${inputs} means and ${inputs} positive deviations`,
        got: `${mean.length} and ${std.length}`,
      }),
  );
  const module = "normalise";
  const constant = (name: string, values: readonly number[]) =>
    sketch.constant(name, float32([inputs], Float32Array.from(values)));
  const centred = sketch.op("Sub", [input, constant("normalise.mean", mean)], { module });
  return sketch.op("Div", [centred, constant("normalise.std", std)], { module });
}
