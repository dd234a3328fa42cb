/** A line: at each place of the axis a mean and how far seeds are from it. */
export type Series = {
  readonly name: string;
  readonly colour: string;
  readonly points: readonly { readonly mean: number; readonly std: number }[];
  /** A dashed line: what there was before any training. */
  readonly base: number;
};

const SIZE = { width: 640, height: 380, left: 60, right: 24, top: 48, bottom: 56 } as const;
const TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1] as const;

/** Accuracies from 0 to 1 over named places, as an SVG document: the same text for the same figures. */
export function plotSeries(places: readonly string[], series: readonly Series[], title: string): string {
  const across = SIZE.width - SIZE.left - SIZE.right;
  const up = SIZE.height - SIZE.top - SIZE.bottom;
  const x = (place: number) => (SIZE.left + ((place + 0.5) / places.length) * across).toFixed(1);
  const y = (value: number) => (SIZE.height - SIZE.bottom - value * up).toFixed(1);
  const [from, to] = [SIZE.left, SIZE.width - SIZE.right];
  const grid = TICKS.flatMap((tick) => [
    `<line x1="${from}" x2="${to}" y1="${y(tick)}" y2="${y(tick)}" stroke="#ddd"/>`,
    `<text x="${from - 8}" y="${y(tick)}" text-anchor="end" dominant-baseline="middle">${tick}</text>`,
  ]);
  const labels = places.map(
    (place, at) => `<text x="${x(at)}" y="${SIZE.height - 34}" text-anchor="middle">ε ${place}</text>`,
  );
  const lines = series.flatMap(({ name, colour, points, base }, at) => [
    `<line x1="${from}" x2="${to}" y1="${y(base)}" y2="${y(base)}" stroke="${colour}" stroke-dasharray="4"/>`,
    `<polyline points="${points.map(({ mean }, place) => `${x(place)},${y(mean)}`).join(" ")}" ` +
      `fill="none" stroke="${colour}" stroke-width="2"/>`,
    ...points.flatMap(({ mean, std }, place) => [
      `<line x1="${x(place)}" x2="${x(place)}" y1="${y(mean - std)}" y2="${y(mean + std)}" ` +
        `stroke="${colour}"/>`,
      `<circle cx="${x(place)}" cy="${y(mean)}" r="4" fill="${colour}"/>`,
    ]),
    `<text x="${from + 160 * at}" y="${SIZE.height - 10}" fill="${colour}">${name}; dashed: its base</text>`,
  ]);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" ` +
      `font-family="sans-serif" font-size="12" fill="#333">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="${from}" y="24" font-size="14">${title}</text>`,
    ...grid,
    ...labels,
    ...lines,
    "</svg>\n",
  ].join("\n");
}
