/** Arithmetic over a handful of seeds or splits: the figures that learning claims print. */

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Standard deviation of a sample (n − 1). */
export function deviation(values: readonly number[]): number {
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
}

/** Student's t at 97.5 % by degrees of freedom 1..9: two to ten seeds. */
const T_975 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262] as const;

/** 95 % interval of the mean over independent repetitions (Student's t); NaN for other than two to ten. */
export function interval95(values: readonly number[]): readonly [number, number] {
  const half = ((T_975[values.length - 2] ?? Number.NaN) * deviation(values)) / Math.sqrt(values.length);
  return [rounded(mean(values) - half), rounded(mean(values) + half)];
}

/** Four decimals: an accuracy over a few hundred rows has no more. */
export function rounded(value: number): number {
  return Math.round(value * 1e4) / 1e4;
}
