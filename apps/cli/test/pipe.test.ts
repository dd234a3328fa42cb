import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { freePort } from "../../../claims/support/free-port.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-pipe-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const program = fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url));

/** Runs a command line whose stdout nobody reads any more; how it ended and what it wrote to stderr. */
async function unread(...args: string[]) {
  const child = spawn(process.execPath, [program, ...args]);
  child.stdout.destroy();
  let errors = "";
  child.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  const ended = await new Promise((resolve) => child.once("close", (...how) => resolve(how)));
  return { ended, errors };
}

test("a command whose reader has gone ends quietly", { timeout: 60_000 }, async () => {
  expect(await unread("--help")).toEqual({ ended: [141, null], errors: "" });
  const init = await unread("init", join(home, "federation"), "--name", "f");
  expect(init).toEqual({ ended: [141, null], errors: "" });
});

test("one that would go on for ever stops with it, in order", { timeout: 60_000 }, async () => {
  const folder = join(home, "served");
  const port = ["--port", `${await freePort()}`];
  expect((await unread("init", folder, ...port)).ended).toEqual([141, null]);
  const { ended, errors } = await unread("serve", folder);
  expect(ended).toEqual([141, null]);
  expect(errors).not.toMatch(/EPIPE|at .*\.ts/);
});
