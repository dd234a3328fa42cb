import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initFederation } from "@tutti/coordinator/folder/init";
import { platformRandom } from "@tutti/foundation/random";
import { afterAll, afterEach, expect, test } from "vitest";
import { asOwner, startPrepared } from "../../apps/cli/src/owner.ts";
import { prepared } from "../../apps/client-sdk/test/mlp.ts";
import { freePort } from "../../claims/support/free-port.ts";
import { Supervisor, TUTTI } from "./serving.ts";

const supervisor = new Supervisor();
const home = await mkdtemp(join(tmpdir(), "tutti-watching-"));
afterEach(() => supervisor.killAll());
afterAll(() => rm(home, { recursive: true, force: true }));

/** What a process wrote so far, and when it wrote something. */
function listener(stream: NodeJS.ReadableStream) {
  let text = "";
  stream.on("data", (chunk) => {
    text += chunk;
  });
  const until = async (said: RegExp) => {
    while (!said.test(text)) await new Promise((resolve) => stream.once("data", resolve));
  };
  return { until, text: () => text };
}

test("a watch outlives its coordinator's restart, and Ctrl-C on it says that the run goes on", {
  timeout: 120_000,
}, async () => {
  const folder = join(home, "federation");
  const about = { folder, name: "f", host: "127.0.0.1", port: await freePort() };
  await initFederation({ ...about, random: platformRandom(), nowMs: Date.now() });
  const first = await supervisor.serve(folder);
  await asOwner(folder, (admin, owner) => startPrepared(admin, owner, prepared({ rounds: 2 })));
  const watch = spawn(process.execPath, [TUTTI, "run", "status", "--watch", "--federation", folder]);
  const ended = new Promise((resolve) => watch.once("exit", (...how) => resolve(how)));
  const [out, errors] = [listener(watch.stdout), listener(watch.stderr)];
  try {
    await out.until(/waiting for sites/);
    first.child.kill("SIGTERM");
    await first.ended;
    await out.until(/connection lost .*; trying again\. The run goes on while its coordinator does/);
    await supervisor.serve(folder);
    await out.until(/connected again/);
    watch.kill("SIGINT");
    expect(await ended).toEqual([130, null]);
  } finally {
    watch.kill("SIGKILL");
  }
  expect(out.text().match(/connection lost/g)).toHaveLength(1);
  expect(errors.text()).toBe("tutti: stopped watching; the run goes on. `tutti run stop` ends it\n");
});
