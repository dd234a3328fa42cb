import type { SeededRandom } from "@tutti/foundation/random";
import { float32, type Program, type Tensors } from "@tutti/graph/ir";

/**
 * How a gradient compares with differences of the loss. `unclear` is neither: what float32 rounds away is of
 * the size of what was to be seen.
 */
export type Verdict = "agrees" | "differs" | "unclear";

/**
 * Half of the elements, each the way the gradient says: what is seen best. All of them, each at random: what
 * shows a part that the gradient lacks.
 */
export type Direction = "uphill" | "random";

export type Slope = {
  readonly tensor: string;
  readonly direction: Direction;
  readonly verdict: Verdict;
  /** The loss's slope by the gradient, and by differences of the loss. */
  readonly derived: number;
  readonly measured: number;
  /** What the measured slope may be off by itself. */
  readonly unsure: number;
};

/** Of the larger of the slope and the gradient's norm. What rounding does is accounted for apart. */
export const TOLERANCE = 0.02;

/** Moves of each element, the largest first: curvature spoils large ones, rounding small ones. */
const MOVES = [0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001] as const;
/** What a loss in float32 may be off by, of its size: a few last bits. */
const ROUNDING = 2e-7;

export type SlopeOptions = {
  readonly direction: Direction;
  /** Gives `loss` for feeds; may give gradients too. */
  readonly program: Program;
  readonly feeds: Tensors;
  readonly gradients: ReadonlyMap<string, Float32Array>;
  readonly random: SeededRandom;
};

/**
 * The slope of the loss as one tensor moves in a direction, by central differences of several sizes; the
 * one is believed that agrees best with the next larger and the next smaller. (With one neighbour, kinks of a
 * Relu make two sizes agree by accident.)
 */
export async function slopeOf(tensor: string, options: SlopeOptions): Promise<Slope> {
  const { direction, feeds, program } = options;
  const gradient = options.gradients.get(tensor)!;
  const signs = signsOf(gradient, options);
  const derived = gradient.reduce((sum, value, at) => sum + value * signs[at]!, 0);
  const norm = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0));
  const { data, shape } = feeds.get(tensor)!;
  const lossAt = async (move: number) => {
    const moved = (data as Float32Array).map((value, at) => value + move * signs[at]!);
    const results = await program.step(new Map([...feeds, [tensor, float32(shape, moved)]]));
    return (results.get("loss")!.data as Float32Array)[0]!;
  };
  const estimates: Estimate[] = [];
  for (const move of MOVES) {
    const [above, below] = [await lossAt(move), await lossAt(-move)];
    const rounding = (ROUNDING * Math.max(Math.abs(above), Math.abs(below))) / move;
    estimates.push({ slope: (above - below) / (2 * move), rounding });
  }
  return { tensor, direction, derived, ...judged(estimates, { derived, norm }) };
}

function signsOf(gradient: Float32Array, { direction, random }: SlopeOptions): Float32Array {
  const coin = () => random.uniform() < 0.5;
  if (direction === "random") return gradient.map(() => (coin() ? -1 : 1));
  return gradient.map((value) => (coin() ? 0 : Math.sign(value)));
}

type Estimate = { readonly slope: number; readonly rounding: number };

/** The believed slope, and whether the derived one is within what is unsure and the tolerance. */
export function judged(
  estimates: readonly Estimate[],
  { derived, norm }: { derived: number; norm: number },
): Pick<Slope, "verdict" | "measured" | "unsure"> {
  let best = { measured: Number.NaN, unsure: Number.POSITIVE_INFINITY };
  for (const [at, { slope, rounding }] of estimates.entries()) {
    const [larger, smaller] = [estimates[at - 1], estimates[at + 1]];
    if (!larger || !smaller) continue;
    const unsure = Math.max(Math.abs(slope - larger.slope), Math.abs(slope - smaller.slope)) + rounding;
    if (unsure < best.unsure) best = { measured: slope, unsure };
  }
  const off = Math.abs(best.measured - derived);
  const within = TOLERANCE * Math.max(norm, Math.abs(derived));
  // Not "off > …": a loss that is no number agrees with nothing.
  if (!(off <= within + best.unsure)) return { ...best, verdict: "differs" };
  // A tensor the loss does not depend on has no slope at all, to the last bit.
  const flat = norm === 0 && best.measured === 0;
  return { ...best, verdict: flat || best.unsure <= within ? "agrees" : "unclear" };
}
