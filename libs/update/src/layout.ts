import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/** A named tensor and its sizes. */
export type TensorSpec = { readonly name: string; readonly shape: readonly number[] };

/** Where a tensor lies in the flat vector: `offset` counts float32 coordinates. */
export type Placed = TensorSpec & { readonly offset: number };

/**
 * Named tensors laid end to end, in the order given. Device and coordinator derive the same one from the
 * plan.
 */
export type Layout = { readonly tensors: readonly Placed[]; readonly length: number };

/** Most coordinates of one vector: 2^26 float32 are 256 MiB, beyond what a device should mask. */
export const MAX_LENGTH = 2 ** 26;

/**
 * Lays tensors end to end. Refuses duplicate names, sizes that are not natural numbers, and more than
 * MAX_LENGTH.
 */
export function layoutOf(specs: readonly TensorSpec[]): Layout {
  const names = new Set<string>();
  const tensors: Placed[] = [];
  let length = 0;
  for (const { name, shape } of specs) {
    if (names.has(name))
      throw new Fault("bad-input", "layout", { expected: "distinct names", got: `two of ${name}` });
    if (!shape.every((size) => Number.isInteger(size) && size > 0)) {
      throw new Fault("bad-input", `layout of ${name}`, { expected: "positive sizes", got: `[${shape}]` });
    }
    names.add(name);
    tensors.push({ name, shape, offset: length });
    length += shape.reduce((product, size) => product * size, 1);
    if (length > MAX_LENGTH) {
      throw new Fault("bad-input", "layout", {
        expected: `at most ${MAX_LENGTH} coordinates`,
        got: `${length}`,
      });
    }
  }
  return { tensors, length };
}

/** The flat vector of a map of tensors; every name of the layout must be there with its size. */
export function flatten(layout: Layout, tensors: ReadonlyMap<string, Float32Array>): Float32Array {
  const flat = new Float32Array(layout.length);
  for (const placed of layout.tensors) {
    const data = tensors.get(placed.name);
    if (data?.length !== sizeOf(placed)) {
      const got = data ? `${data.length}` : "nothing";
      throw new Fault("bad-input", `tensor ${placed.name}`, { expected: `${sizeOf(placed)} values`, got });
    }
    flat.set(data, placed.offset);
  }
  return flat;
}

/** Views into the flat vector by name: writing to one writes to the vector. */
export function unflatten(layout: Layout, flat: Float32Array): Map<string, Float32Array> {
  assert(flat.length === layout.length, `flat vector has ${flat.length} of ${layout.length} coordinates`);
  return new Map(
    layout.tensors.map((placed) => [
      placed.name,
      flat.subarray(placed.offset, placed.offset + sizeOf(placed)),
    ]),
  );
}

function sizeOf({ shape }: TensorSpec): number {
  return shape.reduce((product, size) => product * size, 1);
}
