import { mkdtempSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import { type GridOptions, gridOf, realised } from "@tutti/privacy/grid";
import { afterAll, describe, expect, test } from "vitest";
import type { Figures } from "../src/commands/privacy/figures.ts";
import { plotLines } from "../src/commands/privacy/plot.ts";
import { privacy } from "./said.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-privacy-"));
afterAll(() => rm(home, { recursive: true, force: true }));

const ASKED = ["--epsilon", "4", "--rounds", "50", "--cohort", "100"];

const plan = (...args: string[]) => privacy("plan", ...args);

async function planned(...args: string[]): Promise<Figures> {
  return JSON.parse(await plan("--json", ...ASKED, ...args)) as Figures;
}

describe("tutti privacy plan", () => {
  test("its noise multiplier, put in a grid, realises the ε that was asked for", async () => {
    const figures = await planned("--bits", "18", "--length", "5000");
    const options: GridOptions = {
      ...{ bits: 18, devices: 100, honest: figures.honest, dimension: 5000, clip: 1, mode: "distributed" },
      noiseMultiplier: figures.noiseMultiplier,
    };
    const { rho } = realised(gridOf(options), figures.survivors, figures.corrupt);
    expect(epsilonOfRho(50 * rho, 1e-5)).toBeCloseTo(4, 6);
    expect(figures.epsilon).toBeCloseTo(4, 6);
    expect([figures.survivors, figures.corrupt, figures.honest]).toEqual([67, 33, 34]);
    expect(figures.ledger.epsilon).toBeCloseTo(4, 6);
    expect(figures.epsilonIfAllStay).toBeLessThan(3);
  });

  test("the error is the noise of the devices that stay, over their number", async () => {
    const { error, localSigma, noiseMultiplier, honest } = await planned("--bits", "24", "--clip", "0.5");
    expect(localSigma).toBeCloseTo((noiseMultiplier * 0.5) / Math.sqrt(honest), 9);
    expect(error.rms).toBeCloseTo((localSigma * Math.sqrt(100)) / 100, 5);
    expect(error.perClip).toBeCloseTo(2 * error.rms, 9);
    expect(error.wholeVectorPerClip).toBeCloseTo(error.perClip * Math.sqrt(100_000), 6);
  });

  test("the bits that are said to cost at most 1 % do, and one less does not", async () => {
    const { bits, withoutRounding } = await planned();
    const epsilonAt = (width: number) => {
      const options = { bits: width, devices: 100, honest: 34, dimension: 100_000, clip: 1 } as const;
      const grid = gridOf({ ...options, noiseMultiplier: withoutRounding, mode: "distributed" });
      return epsilonOfRho(50 * realised(grid, 67, 33).rho, 1e-5);
    };
    expect(epsilonAt(bits.onePercent!)).toBeLessThanOrEqual(4.04);
    expect(epsilonAt(bits.onePercent! - 1)).toBeGreaterThan(4.04);
    expect(bits.free!).toBeGreaterThanOrEqual(bits.onePercent!);
  });

  test("sampling lowers the noise; the ledger's own count, which cannot see it, is told", async () => {
    const [every, tenth] = [await planned(), await planned("--sampling", "0.1")];
    expect(tenth.noiseMultiplier).toBeLessThan(every.noiseMultiplier / 2);
    expect(tenth.ledger.rounds).toBe(5);
    expect(tenth.ledger.epsilon).toBeGreaterThan(4);
    expect(await plan(...ASKED, "--sampling", "0.1")).toContain("cannot check sampling");
  });

  test("central: the aggregator adds all of it, devices none", async () => {
    const { centralSigma, localSigma, noiseMultiplier } = await planned("--mode", "central");
    expect([localSigma, centralSigma]).toEqual([0, noiseMultiplier]);
  });

  test("for people: the sentence comes last, after the curve", async () => {
    const lines = (await plan(...ASKED)).trimEnd().split("\n");
    expect(lines.at(-1)).toMatch(
      /^noise multiplier \d\.\d+, distributed: ε 4\.000 at δ 0\.00001 after 50 rounds$/,
    );
    expect(lines).toContainEqual(expect.stringMatching(/^4\.00 │ +█+$/));
    expect(lines).toContainEqual(expect.stringMatching(/^\s+1 +50 rounds$/));
  });

  test("--svg writes the curve, and not over a file that is there", async () => {
    const file = join(home, "epsilon.svg");
    await plan(...ASKED, "--svg", file);
    const svg = readFileSync(file, "utf8");
    expect(svg.match(/points="([^"]+)"/)![1]!.split(" ")).toHaveLength(50);
    expect(svg).toContain("ε 4.000 at δ 0.00001");
    await expect(plan(...ASKED, "--svg", file)).rejects.toThrow(/a file|new file/);
    await plan(...ASKED, "--svg", file, "--force");
  });

  test.each([
    [["--bits", "5"], /bits: expected more for 100 devices, got 5. Begin with 16/],
    [
      ["--bits", "9"],
      /bits: expected so many that rounding leaves a noise multiplier of 8\.185, got 9. Use \d+/,
    ],
    [["--corrupt", "99"], /--corrupt: expected at most 98 of 100, got 99/],
    [["--delta", "1"], /above 0 and below 1/],
    [["--sampling", "1.5"], /above 0, at most 1/],
    [["--mode", "trusted"], /Allowed choices are distributed, local, central/],
    [["--epsilon", "0.0001"], /epsilon: expected more than/],
  ])("says what is wrong with %j", async (args, message) => {
    await expect(plan(...ASKED, ...args)).rejects.toThrow(message);
  });
});

test("the plot of one round, and of many, has a column for every sixtieth", () => {
  for (const rounds of [1, 7, 60, 200]) {
    const curve = Array.from({ length: rounds }, (_, at) => ({ round: at + 1, epsilon: 2 }));
    expect(plotLines(curve)[1]).toBe(`2.00 │${"█".repeat(60)}`);
  }
});
