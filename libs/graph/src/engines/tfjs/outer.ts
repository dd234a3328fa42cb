import { sizeOf } from "../../ir.ts";
import type { Tf, TfTensor } from "./tfjs.ts";
import type { Move } from "./window.ts";

/*
 * tfjs's kernels slide over two axes (its 3-D ones know no groups and no pads but "same"). A third and any
 * more in front of them are taken apart here: for a convolution their taps become channels of one 2-D
 * convolution, for a pool they are pooled one axis after another.
 */

/** NCHW or NCW to NHWC. Pixels as one axis: wasm transposes three axes up to four times faster than four. */
export function toLast(tf: Tf, x: TfTensor): TfTensor {
  const [n, c, ...space] = x.shape as [number, number, ...number[]];
  const [h, w] = space.length === 1 ? [1, space[0]!] : (space as [number, number]);
  return tf.reshape(tf.transpose(tf.reshape(x, [n, c, h * w]), [0, 2, 1]), [n, h, w, c]);
}

/** NHWC to the NC… shape given; the places along outer axes may stand among the images. */
export function toFirst(tf: Tf, y: TfTensor, shape: number[]): TfTensor {
  const [batch, channels] = shape as [number, number];
  const pixels = sizeOf(shape.slice(2));
  return tf.reshape(tf.transpose(tf.reshape(y, [batch, pixels, channels]), [0, 2, 1]), shape);
}

/**
 * The cells under each tap of a move along the middle axis of `[outer, cells, inner]`: as many tensors
 * `[outer, move.output, inner]` as the kernel has places. Cells outside are `fill`.
 */
export function tapsAlong(tf: Tf, x: TfTensor, { move, fill }: { move: Move; fill: number }): TfTensor[] {
  const [outer, , inner] = x.shape as [number, number, number];
  const [before, after] = [Math.max(0, move.before), Math.max(0, move.after)];
  const none: [number, number] = [0, 0];
  const padded = before + after === 0 ? x : tf.pad(x, [none, [before, after], none], fill);
  return Array.from({ length: move.kernel }, (_, tap) => {
    const start = Math.max(0, -move.before) + tap * move.dilation;
    if (move.stride === 1) return tf.slice(padded, [0, start, 0], [outer, move.output, inner]);
    const end = start + (move.output - 1) * move.stride + 1;
    if (x.dtype === "float32")
      return tf.stridedSlice(padded, [0, start, 0], [outer, end, inner], [1, move.stride, 1]);
    // wasm's strided slice knows floats alone.
    const at = Array.from({ length: move.output }, (_cell, place) => start + place * move.stride);
    return tf.gather(padded, tf.tensor1d(at, "int32"), 1);
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
