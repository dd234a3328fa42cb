import { fromHalf } from "../half.ts";
import type { Tensor, Tensors } from "../ir.ts";

/** Where two engines' results differ most, and how far: a share of the size that counts there. */
export type Gap = { readonly output: string; readonly gap: number };

/**
 * Gradients below this share of the largest one of the step count as of this size. Some are zero by algebra
 * (a softmax does not see a key's bias) and rounding in fact: two engines' rounding has nothing in common.
 */
const FLOOR = 1e-3;

/**
 * The largest difference of two steps' results, each of the larger one's size: of an output's largest element
 * in `wanted`. Infinite where an output is missing, has other dimensions, or is no number on one side alone.
 */
export function gapOf(got: Tensors, wanted: Tensors): Gap {
  const largest = [...wanted].map(([name, tensor]) => (isGradient(name) ? sizeOf(numbers(tensor)) : 0));
  const floor = FLOOR * Math.max(0, ...largest);
  let worst: Gap = { output: "", gap: 0 };
  for (const [output, tensor] of wanted) {
    const gap = apart(got.get(output), tensor, isGradient(output) ? floor : 0);
    if (gap > worst.gap) worst = { output, gap };
  }
  return worst;
}

/** As `differentiate` names them. */
function isGradient(output: string): boolean {
  return output.startsWith("grad.");
}

function apart(got: Tensor | undefined, wanted: Tensor, floor: number): number {
  if (`${got?.shape}` !== `${wanted.shape}`) return Number.POSITIVE_INFINITY;
  const [mine, theirs] = [numbers(got!), numbers(wanted)];
  let most = 0;
  for (const [at, value] of theirs.entries()) {
    // The same infinity, or no number on both sides: both engines say so.
    if (Object.is(mine[at], value)) continue;
    const difference = Math.abs(mine[at]! - value);
    if (!Number.isFinite(difference)) return Number.POSITIVE_INFINITY;
    most = Math.max(most, difference);
  }
  return most === 0 ? 0 : most / Math.max(sizeOf(theirs), floor);
}

/** The largest finite element; infinities say nothing of a size. */
function sizeOf(values: ArrayLike<number>): number {
  let size = 0;
  for (let at = 0; at < values.length; at++) {
    const value = Math.abs(values[at]!);
    if (value > size && value < Number.POSITIVE_INFINITY) size = value;
  }
  return size;
}

function numbers({ dtype, data }: Tensor): Float64Array {
  if (dtype === "float16") return Float64Array.from(data as Uint16Array, fromHalf);
  return Float64Array.from(data as ArrayLike<number | bigint | string>, Number);
}
