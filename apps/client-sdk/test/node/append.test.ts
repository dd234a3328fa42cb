import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { appendSynced } from "../../src/node/append.ts";

test("appends after what is there, and makes the file", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tutti-append-"));
  try {
    const file = join(folder, "lines");
    appendSynced(file)("one\n");
    const append = appendSynced(file);
    append("two\n");
    append("thrée\n");
    expect(await readFile(file, "utf8")).toBe("one\ntwo\nthrée\n");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

if (!existsSync("/dev/full")) console.log("full disk not tried: there is no /dev/full here (Linux has it)");

test.skipIf(!existsSync("/dev/full"))("a full disk is said, and nothing is added to a torn line", () => {
  // Linux: every write to it fails for want of space, and it cannot be cut either.
  const append = appendSynced("/dev/full");
  expect(() => append("one\n")).toThrow(/\/dev\/full: expected to be written/);
  expect(() => append("two\n")).toThrow(/nothing is appended to a torn line/);
});
