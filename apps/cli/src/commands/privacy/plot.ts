/** A curve over rounds, as `figuresOf` makes it. */
export type Curve = readonly { readonly round: number; readonly epsilon: number }[];

const WIDTH = 60;
const HEIGHT = 10;

/** The curve in characters: ε upwards, rounds to the right, a row per line. */
export function plotLines(curve: Curve): readonly string[] {
  const top = curve.at(-1)!.epsilon;
  const rounds = curve.at(-1)!.round;
  const heights = Array.from({ length: WIDTH }, (_, column) => {
    const round = ((column + 1) * rounds) / WIDTH;
    const at = curve.find((point) => point.round >= round - 1e-9)!;
    return Math.max(1, Math.round((at.epsilon / top) * HEIGHT));
  });
  const label = (row: number) => ((top * row) / HEIGHT).toPrecision(3);
  const margin = Math.max(...[HEIGHT, HEIGHT / 2].map((row) => label(row).length));
  const rows = Array.from({ length: HEIGHT }, (_, down) => {
    const row = HEIGHT - down;
    const mark = row === HEIGHT || row === HEIGHT / 2 ? label(row) : "";
    const bars = heights.map((height) => (height >= row ? "█" : " ")).join("");
    return `${mark.padStart(margin)} │${bars}`.trimEnd();
  });
  const axis = `${" ".repeat(margin)} └${"─".repeat(WIDTH)}`;
  const end = `${rounds} rounds`;
  return ["ε", ...rows, axis, `${" ".repeat(margin + 2)}1${end.padStart(WIDTH - 1)}`];
}

const SVG = { width: 640, height: 360, left: 56, bottom: 44, top: 40, right: 20 } as const;

/** The same curve as an SVG document, with the sentence above it. */
export function plotSvg(curve: Curve, title: string): string {
  const last = curve.at(-1)!;
  const across = SVG.width - SVG.left - SVG.right;
  const up = SVG.height - SVG.top - SVG.bottom;
  const x = (round: number) => (SVG.left + (round / last.round) * across).toFixed(1);
  const y = (epsilon: number) => (SVG.height - SVG.bottom - (epsilon / last.epsilon) * up).toFixed(1);
  const path = curve.map(({ round, epsilon }) => `${x(round)},${y(epsilon)}`).join(" ");
  const ticks = [0.25, 0.5, 0.75, 1].flatMap((share) => [
    `<line x1="${SVG.left}" x2="${SVG.width - SVG.right}" y1="${y(share * last.epsilon)}" ` +
      `y2="${y(share * last.epsilon)}" stroke="#ddd"/>`,
    `<text x="${SVG.left - 8}" y="${y(share * last.epsilon)}" text-anchor="end" dominant-baseline="middle">` +
      `${(share * last.epsilon).toPrecision(3)}</text>`,
    `<text x="${x(share * last.round)}" y="${SVG.height - SVG.bottom + 18}" text-anchor="middle">` +
      `${Math.round(share * last.round)}</text>`,
  ]);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SVG.width} ${SVG.height}" ` +
      `font-family="sans-serif" font-size="12" fill="#333">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="${SVG.left}" y="22" font-size="14">${escaped(title)}</text>`,
    ...ticks,
    `<polyline points="${path}" fill="none" stroke="#1f6feb" stroke-width="2"/>`,
    `<text x="${SVG.width - SVG.right}" y="${SVG.height - 8}" text-anchor="end">rounds</text>`,
    `<text x="14" y="${SVG.top}">ε</text>`,
    "</svg>\n",
  ].join("\n");
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[char]!);
}
