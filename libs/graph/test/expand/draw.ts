import { seededRandom } from "@tutti/foundation/random";
import type { Tensor } from "../../src/ir.ts";
import { f32 } from "../tfjs/harness.ts";

/** Float values in [−2, 2], the same for the same seed. */
export function drawn(shape: readonly number[], seed = 1): Tensor {
  const random = seededRandom(seed);
  const size = shape.reduce((product, d) => product * d, 1);
  return f32(
    shape,
    Array.from({ length: size }, () => 4 * random.uniform() - 2),
  );
}
