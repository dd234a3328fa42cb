import { checkInteger } from "@tutti/foundation/check";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Graph } from "../ir.ts";
import { type Activation, info, Sketch } from "./sketch.ts";

export type ConvolutionOptions = {
  /** Channels it makes. */
  readonly channels: number;
  /** Side of the square kernel; 3 by default. Padding keeps the size when the stride is 1. */
  readonly kernel?: number;
  readonly stride?: number;
  /** Side and stride of a max pool after the activation; none by default. */
  readonly pool?: number;
};

export type CnnOptions = {
  /** Channels, height and width of an image. */
  readonly image: readonly [number, number, number];
  readonly layers: readonly ConvolutionOptions[];
  readonly classes: number;
  readonly activation?: Activation;
  /** What the classifier reads: each channel's mean (any later layer may be large), or every value. */
  readonly reads?: "mean" | "all";
  readonly random: SeededRandom;
  readonly inputName?: string;
  readonly outputName?: string;
};

const MAX_SIZE = 1 << 16;

/**
 * Convolutions [batch, channels, height, width] → logits [batch, classes], with a symbolic batch. Layer i is
 * `features.<i>` (Conv, kernel [out, in, k, k]), the last is `classifier` (Gemm, transB = 1); the names are
 * torch's, so that adapters find their targets.
 * @throws Fault("bad-input") naming the size that is not a positive number.
 */
export function cnn(options: CnnOptions): Graph {
  const { image, layers, classes, activation = "relu", reads = "mean" } = options;
  const [inputName, outputName] = [options.inputName ?? "x", options.outputName ?? "logits"];
  for (const size of image) sizeFor("image", size);
  const sketch = new Sketch(options.random);
  let [x, channels, height, width] = [inputName, ...image];
  for (const [index, layer] of layers.entries()) {
    const { kernel = 3, stride = 1, pool = 1 } = layer;
    const module = `features.${index}`;
    x = convolution(sketch, x, { module, from: channels, to: layer.channels, kernel, stride });
    x = sketch.activation(module, x, activation);
    if (pool > 1) x = pooled(sketch, x, { module, pool: sizeFor(`${module}: pool`, pool) });
    const reduced = (size: number) =>
      Math.floor((Math.floor((size + 2 * Math.floor(kernel / 2) - kernel) / stride) + 1) / pool);
    [channels, height, width] = [layer.channels, reduced(height), reduced(width)];
    for (const size of [height, width]) sizeFor(`${module}: what is left of the image`, size);
  }
  const seen = reads === "mean" ? sketch.op("GlobalAveragePool", [x]) : x;
  const flat = sketch.op("Flatten", [seen], { attributes: { axis: 1 } });
  const fanIn = reads === "mean" ? channels : channels * height * width;
  sketch.gemm("classifier", flat, { fanIn, fanOut: sizeFor("classes", classes), as: outputName });
  return sketch.finish("cnn", {
    inputs: [info(inputName, "float32", ["batch", ...image])],
    outputs: [info(outputName, "float32", ["batch", classes])],
  });
}

type Convolution = { module: string; from: number; to: number; kernel: number; stride: number };

function convolution(sketch: Sketch, x: string, { module, from, to, kernel, stride }: Convolution): string {
  for (const size of [to, kernel, stride]) sizeFor(module, size);
  const fanIn = from * kernel * kernel;
  const weight = sketch.uniform(`${module}.weight`, [to, from, kernel, kernel], fanIn);
  const bias = sketch.uniform(`${module}.bias`, [to], fanIn);
  const pad = Math.floor(kernel / 2);
  const attributes = {
    kernel_shape: [kernel, kernel],
    strides: [stride, stride],
    pads: [pad, pad, pad, pad],
  };
  return sketch.op("Conv", [x, weight, bias], { module, attributes });
}

function pooled(sketch: Sketch, x: string, { module, pool }: { module: string; pool: number }): string {
  const attributes = { kernel_shape: [pool, pool], strides: [pool, pool] };
  return sketch.op("MaxPool", [x], { module, attributes });
}

function sizeFor(what: string, size: number): number {
  return checkInteger(`cnn: ${what}`, size, [1, MAX_SIZE]);
}
