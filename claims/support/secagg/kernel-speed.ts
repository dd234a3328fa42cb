import { addKeystream } from "@tutti/kernels/chacha20";

/**
 * Median seconds of each run, `repetitions` times in turn: what else the machine does in the meantime falls
 * on all alike. The first two turns warm up and do not count.
 */
export function medianSeconds<Name extends string>(
  runs: Readonly<Record<Name, () => void>>,
  repetitions: number,
): Record<Name, number> {
  const names = Object.keys(runs) as Name[];
  const taken = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let turn = -2; turn < repetitions; turn++) {
    for (const name of names) {
      const began = performance.now();
      runs[name]();
      if (turn >= 0) taken[name].push((performance.now() - began) / 1000);
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(taken[name])])) as Record<Name, number>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

/**
 * Bytes of a vector of `length` words that one thread masks per second and mask: the floor of every claim
 * about a whole session. Median of several repetitions.
 */
export function kernelBytesPerS(length = 1 << 20, repetitions = 15): number {
  const key = Uint8Array.from({ length: 32 }, (_, i) => i);
  const vector = new Uint32Array(length);
  const { mask } = medianSeconds({ mask: () => addKeystream(vector, key, 1) }, repetitions);
  return vector.byteLength / mask;
}
