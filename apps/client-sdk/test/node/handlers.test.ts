import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const engine = fileURLToPath(new URL("../../src/node/engine.ts", import.meta.url));

/** Runs lines in a process of its own, after tfjs has been started on wasm. */
function afterStart(...lines: readonly string[]) {
  const start = [`import { nodeEngine } from ${JSON.stringify(engine)};`, ...lines];
  const args = ["--import", import.meta.resolve("tsx"), "--input-type=module", "-e", start.join("\n")];
  return spawnSync(process.execPath, args, { encoding: "utf8" });
}

test("an error nobody caught is printed as Node prints it, not with tfjs's source", {
  timeout: 60_000,
}, () => {
  for (const fail of ['throw new Error("mine")', 'Promise.reject(new Error("mine"))']) {
    const { status, stderr } = afterStart(`await nodeEngine("tfjs");`, `setImmediate(() => { ${fail} });`);
    expect(status).toBe(1);
    expect(stderr).toContain("Error: mine");
    expect(stderr.length).toBeLessThan(2000);
    expect(stderr).not.toContain("tfjs-backend-wasm");
  }
});

test("handlers of others stay, also those that came while it started", { timeout: 60_000 }, () => {
  const { stdout } = afterStart(
    `process.on("uncaughtException", (error) => console.log("before", error.message));`,
    `const started = nodeEngine("tfjs");`,
    `process.on("uncaughtException", (error) => console.log("during", error.message));`,
    `await started;`,
    `setImmediate(() => { throw new Error("mine"); });`,
  );
  expect(stdout).toBe("before mine\nduring mine\n");
});
