import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { initFederation } from "@tutti/coordinator/folder/init";
import { Office } from "@tutti/coordinator/lead/office";
import { platformRandom } from "@tutti/foundation/random";
import { expect, test } from "vitest";
import { tellRole } from "../src/commands/serve.ts";

/** What a coordinator at this address said, as people read it and as scripts do. */
function telling(more: { readonly operationsPort?: number } = {}) {
  const office = new Office();
  const about = { name: "f", address: "a:1", operationsPort: undefined, ...more };
  const lines: string[] = [];
  const roles: unknown[] = [];
  const quiet = tellRole(
    { ...about, onRole: (callback) => office.onRole(callback) },
    {
      result: (value, sentence) => {
        lines.push(sentence);
        roles.push(value.role);
      },
    },
  );
  return { office, lines, roles, quiet };
}

test("a role that changes is said again: the last line is how it is", () => {
  const { office, lines, roles, quiet } = telling();
  office.become({ kind: "standby", leader: "b:2" });
  office.become({ kind: "leader", epoch: 3 });
  office.enter({ epoch: 3 } as never);
  office.leave(3);
  office.become({ kind: "standby", leader: null });
  expect(lines).toEqual([
    "federation f stands by on a:1 (Ctrl-C stops it)",
    "federation f stands by on a:1, b:2 leads (Ctrl-C stops it)",
    "federation f listens on a:1 (Ctrl-C stops it)",
    "federation f stands by on a:1 (Ctrl-C stops it)",
  ]);
  expect(roles).toEqual(["standby", "standby", "leader", "standby"]);
  quiet();
  office.become({ kind: "standby", leader: "b:2" });
  expect(lines).toHaveLength(4);
});

test("--port elsewhere than devices dial is told at once", { timeout: 60_000 }, async () => {
  const home = mkdtempSync(join(tmpdir(), "tutti-serve-"));
  const folder = join(home, "federation");
  const about = { folder, name: "f", host: "127.0.0.1", port: 17_600 };
  await initFederation({ ...about, random: platformRandom(), nowMs: Date.now() });
  const program = fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url));
  const child = spawn(process.execPath, [program, "serve", folder, "--port", "0"]);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const first = await new Promise((resolve) => child.stdout.once("data", (line) => resolve(`${line}`)));
  child.kill("SIGTERM");
  await ended;
  rmSync(home, { recursive: true, force: true });
  expect(first).toMatch(
    /listens on 127\.0\.0\.1:\d+, though tutti\.json has devices dial 127\.0\.0\.1:17600 /,
  );
});
