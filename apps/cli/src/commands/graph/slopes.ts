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

/** What a loss in float32 may be off by, of its size: a few last bits. */
const ROUNDING = 3e-7;
/**
 * Moves of each element. The smallest at which rounding stays below a quarter of the tolerance: larger ones
 * pass kinks (Relu, MaxPool), and no agreement between two of those tells that they do.
 */
const [LEAST, MOST] = [3e-5, 0.1] as const;

export type SlopeOptions = {
  readonly direction: Direction;
  /** Gives `loss` for feeds; may give gradients too. */
  readonly program: Program;
  readonly feeds: Tensors;
  readonly gradients: ReadonlyMap<string, Float32Array>;
  readonly random: SeededRandom;
};

/** The slope of the loss as one tensor moves in a direction, by central differences. */
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
  const within = TOLERANCE * Math.max(norm, Math.abs(derived));
  const rounded = ROUNDING * Math.abs(await lossAt(0));
  const move = Math.min(MOST, Math.max(LEAST, (4 * rounded) / within));
  const slope = async (by: number) => ((await lossAt(by)) - (await lossAt(-by))) / (2 * by);
  const measured = await slope(move);
  const unsure = rounded / move + Math.abs((await slope(2 * move)) - measured);
  return {
    tensor,
    direction,
    derived,
    measured,
    unsure,
    verdict: verdictOf({ derived, measured, unsure, within }),
  };
}

function signsOf(gradient: Float32Array, { direction, random }: SlopeOptions): Float32Array {
  const coin = () => random.uniform() < 0.5;
  if (direction === "random") return gradient.map(() => (coin() ? -1 : 1));
  return gradient.map((value) => (coin() ? 0 : Math.sign(value)));
}

/** Whether the derived slope is within what is unsure and the tolerance, and whether that says anything. */
export function verdictOf(found: {
  readonly derived: number;
  readonly measured: number;
  readonly unsure: number;
  readonly within: number;
}): Verdict {
  const { derived, measured, unsure, within } = found;
  // Not "off > …": a loss that is no number agrees with nothing.
  if (!(Math.abs(measured - derived) <= within + unsure)) return "differs";
  // A tensor the loss does not depend on has no slope at all, to the last bit.
  const flat = within === 0 && measured === 0;
  return flat || unsure <= within ? "agrees" : "unclear";
}
