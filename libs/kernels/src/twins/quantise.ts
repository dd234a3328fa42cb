import { addKeystreamTwin } from "./chacha20.ts";

/** `roundWords` in TypeScript; everything is checked already. */
export function roundWordsTwin(
  values: Float32Array,
  at: { readonly factor: number; readonly limit: number; readonly bits: number; readonly key: Uint8Array },
): Uint32Array {
  const { factor, limit, bits, key } = at;
  const words = new Uint32Array(values.length);
  addKeystreamTwin(words, key, 1);
  const drop = 32 - bits;
  for (let i = 0; i < values.length; i++) {
    const value = Math.min(limit, Math.max(-limit, values[i]!)) * factor;
    const floor = Math.floor(value);
    const up = words[i]! < (value - floor) * 2 ** 32 ? 1 : 0;
    words[i] = ((floor + up) << drop) >>> drop;
  }
  return words;
}
