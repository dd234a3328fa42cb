import { assert } from "@tutti/foundation/check";
import type { GradientRule } from "./optimiser.ts";

/**
 * Control variates against client drift: SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378;
 * equations as there). Both sides are linear, so they pass through a secure sum.
 */
export type Controls = {
  /** c: the mean of all devices' control variates; comes with the round's model. */
  readonly server: Float32Array;
  /** c_i: the device's own, kept on the device from round to round; zeros at first. */
  readonly device: Float32Array;
};

/** Turns each local step from the device's own direction towards everyone's: g + c − c_i (equation 3). */
export function controlled({ server, device }: Controls): GradientRule<null> {
  assert(server.length === device.length, "control variates of one length");
  return {
    begin: () => null,
    apply: (gradient) => [gradient.map((g, i) => g + (server[i]! - device[i]!)), null],
  };
}

/** One device's local work in a round: x, what it came to (y_i), its steps K and their rate η_l. */
export type LocalWork = {
  readonly before: Float32Array;
  readonly after: Float32Array;
  readonly steps: number;
  readonly learningRate: number;
};

/**
 * The device's next control variate, option II of equation 4: c_i − c + (x − y_i)/(K·η_l), which is the mean
 * gradient it met. What is sent up is its difference to the present one, a sum like any other.
 * Exact for plain SGD at one rate; with momentum or schedules it is an estimate.
 */
export function nextControl({ server, device }: Controls, work: LocalWork): Float32Array {
  const { before, after, steps, learningRate } = work;
  assert(steps > 0 && learningRate > 0, "a device that made steps");
  const scale = 1 / (steps * learningRate);
  return device.map((own, i) => own - server[i]! + (before[i]! - after[i]!) * scale);
}

/** The server's next control variate (equation 5): c + (share of all devices that took part)·mean Δc_i. */
export function nextServerControl(
  server: Float32Array,
  meanChange: Float32Array,
  share: number,
): Float32Array {
  assert(share > 0 && share <= 1, "a share of the devices");
  return server.map((c, i) => c + share * meanChange[i]!);
}
