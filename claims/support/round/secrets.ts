import { packBits } from "@tutti/kernels/pack";
import type { Needle } from "./search.ts";
import type { Truth } from "./truth.ts";

/** Consecutive values of a vector that are looked for together. */
const WINDOW = 4;
/** Weight and metrics, behind the update (docs/protocol.md, The vector). */
const TAIL = 6;
/** A window with fewer different bytes, such as of zeros, would be found anywhere. */
const FEWEST_BYTES = 6;

export const VECTORS = {
  update32: "update as float32",
  update64: "update as float64",
  trained32: "trained adapter as float32",
  words: "quantised words of 32 bits",
  packed: "quantised words, packed",
  tail: "quantised counts and losses, packed",
} as const;

/**
 * Everything of a site that must stay its own, as windows and numbers in the encodings they could leave in.
 */
export function secretsOf(site: string, truth: Truth, bits: number): Needle[] {
  const words = Uint32Array.from(truth.words);
  const vectors = [
    ...windows(VECTORS.update32, float32(truth.update)),
    ...windows(VECTORS.update64, new Uint8Array(Float64Array.from(truth.update).buffer), 8),
    ...windows(VECTORS.trained32, float32(truth.trained)),
    ...windows(VECTORS.words, new Uint8Array(words.buffer)),
    ...windows(VECTORS.packed, packBits(words, bits), bits / 8),
    ...windows(VECTORS.tail, packBits(words.slice(-TAIL), bits), bits / 8),
  ];
  return [...vectors, ...numbers(truth)].map((needle) => ({ site, ...needle }));
}

/** Float32 windows of a vector that is public. */
export function windowsOf(site: string, what: string, vector: readonly number[]): Needle[] {
  return windows(what, float32(vector)).map((needle) => ({ site, ...needle }));
}

type Bare = Omit<Needle, "site">;

function windows(what: string, bytes: Uint8Array, wordBytes = 4): Bare[] {
  const found: Bare[] = [];
  const length = WINDOW * wordBytes;
  for (let at = 0; at + length <= bytes.length; at += wordBytes) {
    const window = bytes.slice(at, at + length);
    if (new Set(window).size >= FEWEST_BYTES) found.push({ what, bytes: window });
  }
  return found;
}

function numbers({ rows, loss, correct }: Truth): Bare[] {
  const counts = {
    "rows trained on": rows.train,
    "rows held out": rows.heldOut,
    "rows answered right": correct,
  };
  const reals = {
    "mean loss in training": loss.train,
    "summed loss in training": loss.train * rows.train,
    "mean loss on rows held out": loss.heldOut,
    "summed loss on rows held out": loss.heldOut * rows.heldOut,
    accuracy: correct / rows.heldOut,
  };
  return [
    ...Object.entries(counts).flatMap(([what, value]) => [...binary(what, value), digits(what, `${value}`)]),
    ...Object.entries(reals).flatMap(([what, value]) => [
      ...binary(what, value),
      digits(what, `${value}`),
      digits(what, value.toFixed(5)),
    ]),
  ];
}

/** A number as protobuf, typed arrays and big-endian formats hold it. */
export function binary(what: string, value: number): Bare[] {
  const view = new DataView(new ArrayBuffer(20));
  view.setFloat64(0, value, true);
  view.setFloat64(8, value, false);
  view.setFloat32(16, value, true);
  const part = (at: number, end: number) => new Uint8Array(view.buffer.slice(at, end));
  return [
    { what: `${what} as float64`, bytes: part(0, 8) },
    { what: `${what} as float64, big-endian`, bytes: part(8, 16) },
    { what: `${what} as float32`, bytes: part(16, 20) },
  ];
}

export function digits(what: string, text: string): Bare {
  return { what: `${what} as text`, bytes: new TextEncoder().encode(text), alone: true };
}

function float32(values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}
