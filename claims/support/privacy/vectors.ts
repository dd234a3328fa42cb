import { epsilonOf, type Mechanism, rdpOf } from "@tutti/privacy/accountant";
import { type GridOptions, gridOf, realised } from "@tutti/privacy/grid";

/** An ε that others computed, with as many digits as they gave. */
export type EpsilonVector = Mechanism & { readonly delta: number; readonly epsilon: number };

/**
 * What Opacus's tests expect, which keeps the signs of the series; then what Google's dp_accounting computes.
 */
export const EPSILONS: readonly EpsilonVector[] = [
  row(1.5, 0.04, 2250, 1e-5, 7.32911117143, "signed"),
  row(1.3, 150 / 60_000, 15 * 400, 1e-5, 0.7242234026109595),
  row(1, 100 / 1e5, 30 * 1000, 1e-7, 1.4154988495444842),
  row(0.7, 1, 2, 1e-5, 10.8602036),
  row(0.7, 0.01, 120, 1e-5, 3.2392676),
  row(1, 1, 1, 1e-5, 4.728507),
  row(0.7, 0.001, 1e4, 1e-6, 2.47304),
  row(1, 0.01, 1000, 1e-5, 2.101367),
  row(1.1, 0.01, 1e4, 1e-5, 5.63201),
  row(1, 0.1, 100, 1e-5, 7.90385),
  row(2, 0.1, 1000, 1e-6, 9.823879),
  row(10, 1, 100, 1e-6, 5.22154),
  row(4, 1, 10, 1e-5, 3.6171),
  row(5, 0.5, 200, 1e-5, 7.231782),
];

/** Scale, local σ and ε of the distributed discrete Gaussian by modulus bits, as printed: to these digits. */
export const GRIDS = [
  { bits: 20, scale: "126341.05", localSigma: "12634.1", epsilon: "9.8235" },
  { bits: 16, scale: "7896.314", localSigma: "789.63", epsilon: "9.8309" },
  { bits: 14, scale: "1974.073", localSigma: "197.41", epsilon: "9.9274" },
] as const;

/** How far our ε is from each of EPSILONS, relative to it, and the grids that do not print as they should. */
export function checkVectors(): {
  readonly errors: readonly number[];
  readonly wrongGrids: readonly string[];
} {
  const errors = EPSILONS.map((vector) => {
    const { epsilon, delta, ...mechanism } = vector;
    return Math.abs(epsilonOf(rdpOf(mechanism), delta).epsilon / epsilon - 1);
  });
  const wrongGrids = GRIDS.flatMap((expected) => {
    const got = gridAt(expected.bits);
    const wrong = (["scale", "localSigma", "epsilon"] as const).filter(
      (key) => got[key].toFixed(expected[key].split(".")[1]!.length) !== expected[key],
    );
    return wrong.map((key) => `${expected.bits} bits: ${key} ${got[key]}, expected ${expected[key]}`);
  });
  return { errors, wrongGrids };
}

/** 100 devices, all honest, d = 2^17, z = 1; a tenth sampled in each of 100 rounds; δ = 1e−5. */
function gridAt(bits: number) {
  const options: GridOptions = {
    ...{ bits, devices: 100, honest: 100, dimension: 2 ** 17 },
    ...{ clip: 1, noiseMultiplier: 1, mode: "distributed" },
  };
  const grid = gridOf(options);
  const { noiseMultiplier } = realised(grid, 100, 0);
  const rdp = rdpOf({ noiseMultiplier, sampling: 0.1, steps: 100, noise: "discrete" });
  return { ...grid, epsilon: epsilonOf(rdp, 1e-5).epsilon };
}

function row(
  ...[noiseMultiplier, sampling, steps, delta, epsilon, series = "sizes"]: readonly [
    ...[noise: number, sampling: number, steps: number, delta: number, epsilon: number],
    series?: "signed" | "sizes",
  ]
): EpsilonVector {
  return { noiseMultiplier, sampling, steps, delta, epsilon, series };
}
