import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openSpending } from "../../src/node/spending.ts";

const entry = { run: "a".repeat(64), round: 1, attempt: 0, rho: 0.5, delta: 1e-5 };
let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-spending-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("a device's account of what it gave away", () => {
  test("is there again after a restart", async () => {
    const file = join(folder, "privacy.log");
    const first = await openSpending(file);
    expect(first.entries()).toEqual([]);
    first.add(entry);
    first.add({ ...entry, round: 2 });
    expect((await openSpending(file)).entries()).toEqual([entry, { ...entry, round: 2 }]);
  });

  test("a line that a crash tore counts as spent, and the next one is whole", async () => {
    const file = join(folder, "privacy.log");
    (await openSpending(file)).add(entry);
    await appendFile(file, `0.25 ${entry.run} 2`);
    const again = await openSpending(file);
    expect(again.entries().map(({ rho }) => rho)).toEqual([0.5, 0.25]);
    again.add({ ...entry, round: 3 });
    expect((await openSpending(file)).entries().map(({ rho }) => rho)).toEqual([0.5, 0.25, 0.5]);
    await appendFile(file, "0.");
    // Too short to say for whom: its add never returned, so nothing was uploaded for it.
    expect((await openSpending(file)).entries()).toHaveLength(3);
    expect((await readFile(file, "utf8")).endsWith("\n")).toBe(true);
  });

  test("two processes on one folder see what each other spent", async () => {
    const file = join(folder, "privacy.log");
    const [one, two] = [await openSpending(file), await openSpending(file)];
    one.add(entry);
    two.add({ ...entry, round: 2 });
    expect(one.entries()).toEqual(two.entries());
    expect(one.entries()).toHaveLength(2);
  });

  test("a damaged file permits nothing", async () => {
    const file = join(folder, "privacy.log");
    await writeFile(file, "0.5 what is this\n");
    await expect(openSpending(file)).rejects.toThrow("ledger, line 1");
  });

  test("a price that cannot be written is none", async () => {
    const spending = await openSpending(join(folder, "gone", "privacy.log"));
    expect(() => spending.add(entry)).toThrow("to be written");
    expect(spending.entries()).toEqual([]);
  });
});
