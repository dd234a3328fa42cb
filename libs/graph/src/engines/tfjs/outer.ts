import { sizeOf } from "../../ir.ts";
import type { Tf, TfTensor } from "./tfjs.ts";
import type { Move } from "./window.ts";

/*
 * tfjs's kernels slide over two axes (its 3-D ones know no groups and no pads but "same"). A third and any
 * more in front of them are taken apart here: for a convolution their taps become channels of one 2-D
 * convolution, for a pool they are pooled one axis after another.
 */

/** NC… to `[N, pixels, C]`. wasm transposes these three axes up to four times faster than four. */
export function channelsLast(tf: Tf, x: TfTensor): TfTensor {
  const [n, c] = x.shape as [number, number];
  return tf.transpose(tf.reshape(x, [n, c, sizeOf(x.shape.slice(2))]), [0, 2, 1]);
}

/** NCHW or NCW to NHWC. */
function toLast(tf: Tf, x: TfTensor): TfTensor {
  const [n, c, ...space] = x.shape as [number, number, ...number[]];
  const [h, w] = space.length === 1 ? [1, space[0]!] : (space as [number, number]);
  return tf.reshape(channelsLast(tf, x), [n, h, w, c]);
}

/** Channels last, whatever the shape, to the NC… shape given. */
export function toFirst(tf: Tf, y: TfTensor, shape: number[]): TfTensor {
  const [batch, channels] = shape as [number, number];
  const pixels = sizeOf(shape.slice(2));
  return tf.reshape(tf.transpose(tf.reshape(y, [batch, pixels, channels]), [0, 2, 1]), shape);
}

/**
 * The cells under each tap of a move along the middle axis of `[outer, cells, inner]`: as many tensors
 * `[outer, move.output, inner]` as the kernel has places. Cells outside are `fill`. Cells a stride apart are
 * cut as columns of a matrix with a stride to a row; wasm's strided slice takes 200 ns an element.
 */
export function tapsAlong(tf: Tf, x: TfTensor, { move, fill }: { move: Move; fill: number }): TfTensor[] {
  const [outer, cells, inner] = x.shape as [number, number, number];
  const { kernel, stride, dilation, output } = move;
  const [before, cut] = [Math.max(0, move.before), Math.max(0, -move.before)];
  const starts = Array.from({ length: kernel }, (_, tap) => cut + tap * dilation);
  const rows = Math.max(Math.ceil((before + cells) / stride), Math.floor(starts.at(-1)! / stride) + output);
  const after = rows * stride - before - cells;
  const edges: [number, number][] = [
    [0, 0],
    [before, after],
    [0, 0],
  ];
  const whole = before + after === 0 ? x : tf.pad(x, edges, fill);
  const matrix = tf.reshape(whole, [outer, rows, stride * inner]);
  return starts.map((start) => {
    const corner = [0, Math.floor(start / stride), (start % stride) * inner];
    return tf.slice(matrix, corner, [outer, output, inner]);
  });
}

/**
 * NC… with outer axes to NHWC without: every output place along the outer axes is an image of its own, every
 * tap there a channel, `[batch · places, height, width, channels · taps]`.
 */
export function asChannels(tf: Tf, x: TfTensor, moves: readonly Move[]): TfTensor {
  if (moves.length === 0) return toLast(tf, x);
  const [batch, channels] = x.shape as [number, number];
  const [height, width] = x.shape.slice(-2) as [number, number];
  let taken = x;
  for (const [axis, move] of moves.entries()) {
    const inner = sizeOf(x.shape.slice(axis + 3));
    const cells = tf.reshape(taken, [-1, move.input, inner]);
    taken = tf.concat(tapsAlong(tf, cells, { move, fill: 0 }), 1);
  }
  const split = moves.flatMap(({ kernel, output }) => [kernel, output]);
  const apart = tf.reshape(taken, [batch, channels, ...split, height * width]);
  const places = moves.map((_, at) => 3 + 2 * at);
  const taps = moves.map((_, at) => 2 + 2 * at);
  const last = tf.transpose(apart, [0, ...places, 2 + split.length, 1, ...taps]);
  const [images, depth] = [product(moves, "output"), product(moves, "kernel")];
  return tf.reshape(last, [batch * images, height, width, channels * depth]);
}

/** Over the moves, the product of how many places or taps there are. */
export const product = (moves: readonly Move[], key: "kernel" | "output"): number =>
  sizeOf(moves.map((move) => move[key]));
