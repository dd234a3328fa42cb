import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { afterAll, expect, test } from "vitest";
import { undisturbed, withContext } from "../src/action.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-stop-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const program = fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url));

test("Ctrl-C ends a command that only computes, at once and without a word of ours", {
  timeout: 120_000,
}, async () => {
  const child = spawn(process.execPath, [program, "bench", "graph", "--rounds", "10000"]);
  let errors = "";
  child.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  child.kill("SIGINT");
  const ended = await new Promise((resolve) => child.once("exit", (...how) => resolve(how)));
  // A shell says 130 of this.
  expect(ended).toEqual([null, "SIGINT"]);
  expect(errors).not.toMatch(/bug|Abort/);
});

test("a command that asks for the signal is cancelled by it, and leaves no listener", async () => {
  const before = process.listenerCount("SIGINT");
  const run = withContext(new Command("it"), async ({ signal }) => {
    expect(process.listenerCount("SIGINT")).toBe(before + 1);
    process.emit("SIGINT");
    signal.throwIfAborted();
  });
  await expect(run).rejects.toMatchObject({ code: "cancelled" });
  expect(process.listenerCount("SIGINT")).toBe(before);
});

test("what must not end halfway ends first", { timeout: 60_000 }, async () => {
  const script = join(home, "write.mjs");
  const out = join(home, "done");
  const action = fileURLToPath(new URL("../src/action.ts", import.meta.url));
  const lines = [
    `import { writeFileSync } from "node:fs";`,
    `import { undisturbed } from ${JSON.stringify(action)};`,
    `setInterval(() => {}, 1000);`,
    `await undisturbed(async () => {`,
    `  process.kill(process.pid, "SIGINT");`,
    `  await new Promise((resolve) => process.once("SIGINT", resolve));`,
    `  writeFileSync(${JSON.stringify(out)}, "whole");`,
    `});`,
    `await new Promise(() => {});`,
  ];
  writeFileSync(script, lines.join("\n"));
  const child = spawn(process.execPath, ["--import", import.meta.resolve("tsx"), script]);
  const ended = await new Promise((resolve) => child.once("exit", (...how) => resolve(how)));
  expect(ended).toEqual([null, "SIGINT"]);
  expect(existsSync(out) && readFileSync(out, "utf8")).toBe("whole");
  expect(await undisturbed(async () => 1)).toBe(1);
});

test("a second signal ends a command that takes its time to stop", { timeout: 60_000 }, async () => {
  const script = join(home, "hang.mjs");
  const action = fileURLToPath(new URL("../src/action.ts", import.meta.url));
  const lines = [
    `import { Command } from ${JSON.stringify(import.meta.resolve("commander"))};`,
    `import { withContext } from ${JSON.stringify(action)};`,
    `await withContext(new Command("it"), async ({ signal }) => {`,
    `  setInterval(() => {}, 1000);`,
    `  signal.addEventListener("abort", () => process.stdout.write("stopping"));`,
    `  process.stdout.write("ready");`,
    `  await new Promise(() => {});`,
    `});`,
  ];
  writeFileSync(script, lines.join("\n"));
  const child = spawn(process.execPath, ["--import", import.meta.resolve("tsx"), script]);
  const ended = new Promise((resolve) => child.once("exit", (...how) => resolve(how)));
  const said = () => new Promise((resolve) => child.stdout.once("data", (text) => resolve(`${text}`)));
  expect(await said()).toBe("ready");
  const next = said();
  child.kill("SIGTERM");
  expect(await next).toBe("stopping");
  child.kill("SIGTERM");
  expect(await ended).toEqual([130, null]);
});
