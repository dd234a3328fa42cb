import { Fault } from "@tutti/foundation/fault";
import { plotSeries } from "./plot.ts";
import type { Row, Swept } from "./sweep.ts";

/** What stands between these two lines of docs/privacy.md is the claim's. */
export const [BEGIN, END] = [
  "<!-- claim privacy/accuracy: written by it, not by hand -->",
  "<!-- end of claim privacy/accuracy -->",
] as const;

export type Tasks = Readonly<Record<"heart" | "mnist", Swept>>;

/** The page with its block replaced. @throws Fault("bad-input") where it has not one of each mark. */
export function withBlock(page: string, block: string): string {
  const parts = page.split(BEGIN);
  const rest = parts[1]?.split(END) ?? [];
  if (parts.length !== 2 || rest.length !== 2)
    throw new Fault("bad-input", "page", { expected: `one ${BEGIN} and, after it, one ${END}` });
  return `${parts[0]}${BEGIN}\n\n${block}\n\n${END}${rest[1]}`;
}

/** Table and plot for docs/privacy.md. */
export function blockOf({ heart, mnist }: Tasks, seeds: number): string {
  return [
    ...tableOf([HEAD, ...heart.rows.map((row, at) => lineOf(row, mnist.rows[at]!))]),
    "",
    `Accuracy on test rows, mean and standard deviation of ${seeds} seeds. Planned ε is what a device`,
    "counts beforehand; beside z is the ε of the sums that there were, all devices in each.",
    "",
    ...[...aboutOf("heart", heart), ...aboutOf("mnist", mnist)],
    "",
    "![Accuracy against ε for both tasks](privacy-accuracy.svg)",
  ].join("\n");
}

const HEAD = ["planned ε", "heart: accuracy", "z; ε", "mnist: accuracy", "z; ε"];

function lineOf(heart: Row, mnist: Row): readonly string[] {
  return [heart.epsilon === null ? "∞, no noise" : `${heart.epsilon}`, ...cells(heart), ...cells(mnist)];
}

function cells({ noiseMultiplier, realised, mean, std }: Row): readonly string[] {
  const noise = noiseMultiplier === null ? "" : `${shown(noiseMultiplier)}; ${shown(realised!)}`;
  return [`${mean.toFixed(3)} ± ${std.toFixed(3)}`, noise];
}

function aboutOf(name: string, swept: Swept): readonly string[] {
  const { devices, coordinates, rounds, rowsPerDevice, testRows, clipNorm, base } = swept;
  const own = [...new Set(rowsPerDevice)].join(" to ");
  return [
    `- ${name}: ${devices} devices of ${own} rows, ${testRows} test rows; in each of ${rounds} rounds`,
    `  ${coordinates} numbers travel, of norm ${clipNorm} at most; the base has ${base.toFixed(3)}.`,
  ];
}

function shown(value: number): string {
  return value.toPrecision(3);
}

/** Columns as wide as their longest cell, as the other tables of the page. */
function tableOf([head, ...rows]: readonly (readonly string[])[]): readonly string[] {
  const width = head!.map((_, at) => Math.max(...[head!, ...rows].map((row) => row[at]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((text, at) => text.padEnd(width[at]!)).join(" | ")} |`;
  return [line(head!), line(width.map((size) => "-".repeat(size))), ...rows.map(line)];
}

export function svgOf({ heart, mnist }: Tasks, seeds: number): string {
  const places = heart.rows.map(({ epsilon }) => `${epsilon ?? "∞"}`);
  return plotSeries(
    places,
    [
      { name: "heart", colour: "#1f6feb", points: heart.rows, base: heart.base },
      { name: "mnist", colour: "#c2410c", points: mnist.rows, base: mnist.base },
    ],
    `Test accuracy, ${heart.devices} devices, δ 0.00001, mean and deviation of ${seeds} seeds`,
  );
}
