import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import fc from "fast-check";
import { expect } from "vitest";
import { sizeOf } from "../../graph/src/ir.ts";
import type { PeftAdapter, PeftModule } from "../src/formats/peft-adapter.ts";
import { scaleOf } from "../src/resolve.ts";

/** What one module of a random adapter looks like; its values follow from its name. */
export type Drawn = {
  readonly name: string;
  readonly kind: "linear" | "embedding";
  readonly in: number;
  readonly out: number;
  readonly rank: number;
  readonly alpha: number;
  readonly rslora: boolean;
};

export function moduleOf({ name, kind, rank, alpha, rslora, ...size }: Drawn): PeftModule {
  const dice = seededRandom(name);
  const drawn = (...shape: number[]) => {
    const data = Float32Array.from({ length: sizeOf(shape) }, dice.normal);
    return { dtype: "F32" as const, shape, data };
  };
  const scale = scaleOf({ rank, alpha, rslora });
  return { name, kind, rank, alpha, scale, a: drawn(rank, size.in), b: drawn(size.out, rank) };
}

/** The product that a module adds to its weight, [out, in], in double precision. */
export function deltaOf({ rank, scale, a, b }: PeftModule): Float64Array {
  const [width, out] = [a.shape[1]!, b.shape[0]!];
  return Float64Array.from({ length: out * width }, (_, at) => {
    const [o, i] = [Math.floor(at / width), at % width];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += b.data[o * rank + r]! * a.data[r * width + i]!;
    return scale * sum;
  });
}

/** Every product of one adapter is that of the other, to float rounding. */
export function expectSameDeltas(got: PeftAdapter, expected: PeftAdapter): void {
  expect(got.modules.map(({ name }) => name)).toEqual(expected.modules.map(({ name }) => name));
  for (const [i, module] of got.modules.entries()) {
    const [ours, theirs] = [deltaOf(module), deltaOf(expected.modules[i]!)];
    const most = theirs.reduce((sum, value) => Math.max(sum, Math.abs(value)), 1e-6);
    ours.forEach((value, at) => void expect(Math.abs(value - theirs[at]!)).toBeLessThan(1e-5 * most));
  }
}

/**
 * Changes, cuts and doublings of a file: reading each gives an answer or a Fault. Where there is an answer,
 * `held` counts its bytes, and it must not be more than the file's.
 */
export function survives(
  file: Uint8Array,
  read: (bytes: Uint8Array) => unknown,
  held: (answer: never) => number = () => 0,
): void {
  const edit = fc.record({
    at: fc.integer({ min: 0, max: file.length - 1 }),
    value: fc.constantFrom(0, 1, 0x7f, 0x80, 0xff, 4, 32),
    run: fc.integer({ min: 1, max: 8 }),
  });
  const cut = fc.option(fc.integer({ min: 0, max: file.length }), { freq: 4 });
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), cut, (edits, end) => {
      const bytes = file.slice(0, end ?? file.length);
      for (const { at, value, run } of edits) bytes.fill(value, at, at + run);
      try {
        expect(held(read(bytes) as never)).toBeLessThanOrEqual(bytes.length);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
      }
    }),
    { numRuns: 400 },
  );
}
