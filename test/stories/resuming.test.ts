import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { initFederation } from "@tutti/coordinator/folder/init";
import { platformRandom } from "@tutti/foundation/random";
import { afterAll, afterEach, expect, test } from "vitest";
import { asOwner, startPrepared } from "../../apps/cli/src/owner.ts";
import { prepared } from "../../apps/client-sdk/test/mlp.ts";
import { freePort } from "../../claims/support/free-port.ts";
import { Supervisor, TUTTI } from "./serving.ts";

const supervisor = new Supervisor();
const home = await mkdtemp(join(tmpdir(), "tutti-resuming-"));
afterEach(() => supervisor.killAll());
afterAll(() => rm(home, { recursive: true, force: true }));

type Ended = { readonly code: number; readonly out: string; readonly errors: string };

/** A command of `tutti run` to its end, whatever its exit code. */
async function run(...args: string[]): Promise<Ended> {
  const folder = ["--federation", join(home, "federation")];
  const ended = promisify(execFile)(process.execPath, [TUTTI, "run", ...args, ...folder]);
  return await ended.then(
    ({ stdout, stderr }) => ({ code: 0, out: stdout, errors: stderr }),
    ({ code, stdout, stderr }) => ({ code, out: stdout, errors: stderr }),
  );
}

test("tutti run: one that failed says how it goes on, and does", {
  timeout: 120_000,
}, async () => {
  const folder = join(home, "federation");
  const about = { folder, name: "f", host: "127.0.0.1", port: await freePort() };
  await initFederation({ ...about, random: platformRandom(), nowMs: Date.now() });
  await supervisor.serve(folder);
  // Nobody is there to train.
  const file = prepared({ name: "lonely", attempts: 1, deadlines: { joinMs: 100 } });
  const id = (await asOwner(folder, (admin, owner) => startPrepared(admin, owner, file))).slice(0, 12);
  const failed = await run("status", "--watch");
  expect(failed.code).toBe(12);
  expect(failed.errors).toContain(`\`tutti run resume ${id}\``);

  const resumed = await run("resume", "lonely", "--no-watch", "--json");
  expect(resumed.code).toBe(0);
  expect(JSON.parse(resumed.out)).toMatchObject({ name: "lonely", round: 0, wasRunning: false });
  expect(JSON.parse(resumed.out).attempt).toBeGreaterThanOrEqual(1);
  // Its attempts are gone again by now, or soon.
  const again = await run("resume", id);
  expect(again.code).toBe(12);
  expect(again.errors).toMatch(/round 0, attempt [2-9] of [2-9]/);

  expect((await run("resume", "nobody")).errors).toContain("expected one of: lonely");
});
