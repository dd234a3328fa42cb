import { Fault } from "@tutti/foundation/fault";

/**
 * Rounding each coordinate to float32 may lengthen a vector by one part in 2^24, and the norm itself is
 * summed with an error below 2^-26; scaling this much shorter keeps the result at or under the bound.
 */
const SLACK = 1 - 2 ** -23;

/**
 * The update scaled down so that its L2 norm is at most `norm` (McMahan et al. 2018, section 3); an update
 * that is short enough already is returned as it is. The argument is never written to.
 * A value that is not finite is a Fault: the device drops out and says why (docs/protocol.md, The vector).
 */
export function clip(update: Float32Array, norm: number): Float32Array {
  if (!(norm > 0 && Number.isFinite(norm))) {
    throw new Fault("bad-input", "clip norm", { expected: "a positive number", got: `${norm}` });
  }
  const length = l2Norm(checkFinite("update", update));
  if (length <= norm) return update;
  const factor = (norm / length) * SLACK;
  return update.map((value) => value * factor);
}

/** The vector itself; a Fault naming the first coordinate that is NaN or infinite. */
export function checkFinite(what: string, vector: Float32Array): Float32Array {
  const at = vector.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return vector;
  throw new Fault("bad-input", what, {
    expected: "finite values",
    got: `${vector[at]} at coordinate ${at}`,
    todo: "Training diverged on this device: lower the learning rate or clip gradients",
  });
}

/** √Σ x² in float64: 2^26 squares of float32 stay below 1e85, so it cannot overflow. NaN where a value is. */
export function l2Norm(vector: Float32Array): number {
  let squares = 0;
  for (const value of vector) squares += value * value;
  return Math.sqrt(squares);
}
