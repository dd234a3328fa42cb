import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BEGIN, blockOf, END, svgOf, withBlock } from "../claims/support/privacy/page.ts";
import type { Row, Swept } from "../claims/support/privacy/sweep.ts";
import { ROOT } from "./tidy/sources.ts";

const page = readFileSync(join(ROOT, "docs/privacy.md"), "utf8");

function swept(accuracy: number, rowsPerDevice: readonly [number, number]): Swept {
  const row = (epsilon: number | null): Row => ({
    epsilon,
    noiseMultiplier: epsilon === null ? null : 8 / epsilon,
    counted: epsilon,
    realised: epsilon === null ? null : epsilon / 2,
    perSeed: [accuracy],
    mean: accuracy,
    std: 0.01,
  });
  const rows = [null, 8, 4, 2].map(row);
  const size = { devices: 100, testRows: 250, rounds: 10, clipNorm: 0.25, coordinates: 14 };
  return { ...size, rowsPerDevice, base: 0.5, rows };
}

const TASKS = { heart: swept(0.75, [4, 5]), mnist: swept(0.8, [90, 90]) };

test("the page has one place for the claim's figures, and rewriting it leaves all else as it is", () => {
  const written = withBlock(page, blockOf(TASKS, 5));
  const around = (text: string) => [text.split(BEGIN)[0], text.split(END)[1]];
  expect(around(written)).toEqual(around(page));
  expect(withBlock(written, blockOf(TASKS, 5))).toBe(written);
  expect(() => withBlock(page.replace(END, ""), "")).toThrow("expected one");
  expect(() => withBlock(`${page}${BEGIN}`, "")).toThrow("expected one");
});

test("what stands there now has the shape that the claim writes, and its plot is in the folder", () => {
  const block = page.split(BEGIN)[1]!.split(END)[0]!;
  const shape = (text: string) => text.replace(/\d+(?:\.\d+)?/g, "0").replace(/ +|-{2,}/g, " ");
  expect(shape(block).trim()).toBe(shape(blockOf(TASKS, 5)));
  const svg = readFileSync(join(ROOT, "docs/privacy-accuracy.svg"), "utf8");
  expect(shape(svg)).toBe(shape(svgOf(TASKS, 5)));
});

test("the plot is the same text for the same figures, a mark for each", () => {
  expect(svgOf(TASKS, 5)).toBe(svgOf(TASKS, 5));
  expect(svgOf(TASKS, 5).match(/<circle/g)).toHaveLength(8);
});
