import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Device, join as joinFederation } from "@tutti/client-sdk/node/index";
import { initFederation } from "@tutti/coordinator/folder/init";
import { readConfig } from "@tutti/coordinator/folder/layout";
import { createToken } from "@tutti/coordinator/folder/token";
import { openReader } from "@tutti/coordinator/store/reader";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { signPlan } from "@tutti/release/plan";
import { RunRequestSchema, StartRunRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { asOwner } from "tutti/owner";
import { afterAll, expect, test } from "vitest";
import { clouds, prepared } from "../../apps/client-sdk/test/mlp.ts";
import { freePort } from "../../claims/support/free-port.ts";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../claims/support/postgres/binaries.ts";
import { sharedCluster } from "../../claims/support/postgres/shared.ts";
import { parts, type Serving, Supervisor } from "./serving.ts";

if (SKIP_POSTGRES) console.log(`a rolling restart: skipped, ${NO_POSTGRES}`);

const random = platformRandom();
const NAMES = ["ann", "bob", "eve"];
const supervisor = new Supervisor();
let home = "";
afterAll(async () => {
  supervisor.killAll();
  if (home) await rm(home, { recursive: true, force: true });
});

/** Two folders of one federation, on one PostgreSQL and one shelf of artifacts. */
async function replicas(): Promise<readonly [string, string]> {
  home = await mkdtemp(join(tmpdir(), "tutti-rolling-"));
  const url = await (await sharedCluster()).database();
  const ports = [await freePort(), await freePort()] as const;
  const first = join(home, "one");
  const about = { folder: first, name: "f", host: "127.0.0.1", port: ports[0] };
  await initFederation({ ...about, random, nowMs: Date.now() });
  const second = join(home, "two");
  await cp(first, second, { recursive: true });
  await writeFile(join(home, "store-url"), url);
  for (const [at, folder] of [first, second].entries()) {
    const file = join(folder, "tutti.json");
    const own = { port: ports[at], listen: { host: "127.0.0.1", port: ports[at] } };
    const shared = {
      addresses: ports.map((port) => `127.0.0.1:${port}`),
      store: { engine: "postgres", urlFile: join(home, "store-url") },
      artifacts: { folder: join(home, "artifacts") },
      operations: { port: await freePort() },
    };
    await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, "utf8")), ...own, ...shared }));
  }
  return [first, second];
}

async function joined(name: string, federation: string): Promise<Device> {
  const folder = join(home, name);
  const token = await createToken({ folder: federation, name, days: 1, random, nowMs: Date.now() });
  await joinFederation({ joinFile: joinFileText(token), folder, random });
  return await Device.open({ folder, data: clouds(40, seededRandom(name)) });
}

async function readyOf({ result }: Serving): Promise<{ role: string; ready: boolean }> {
  return await (await fetch(`http://127.0.0.1:${result.operationsPort}/readyz`)).json();
}

/** The role that a probe tells, once it is this one. */
async function until(role: string, serving: Serving): Promise<void> {
  while ((await readyOf(serving)).role !== role) await new Promise((resolve) => setTimeout(resolve, 100));
}

test.skipIf(SKIP_POSTGRES)(
  "two coordinators restarted one after another: the run goes on, nobody is lost",
  {
    timeout: 240_000,
  },
  async () => {
    const folders = await replicas();
    const one = await supervisor.serve(folders[0]);
    await until("leader", one);
    const two = await supervisor.serve(folders[1]);
    expect(await readyOf(two)).toMatchObject({ role: "standby", ready: true });
    const devices = await Promise.all(NAMES.map((name) => joined(name, folders[0])));
    const { plan, base, initial } = prepared({ rounds: 2, update: { maxWeight: 100 } });
    const { run, outcomes } = await asOwner(folders[0], async (admin, owner) => {
      for (const bytes of [base, initial]) await admin.put(parts(bytes));
      const trained = new Promise<void>((resolve) => {
        for (const device of devices) device.on(({ kind }) => void (kind === "trained" && resolve()));
      });
      const released = new Promise<void>((resolve) => {
        for (const device of devices) device.on(({ kind }) => void (kind === "released" && resolve()));
      });
      const taking = devices.map((device) => device.participate());
      const request = create(StartRunRequestSchema, { plan: signPlan(plan, owner) });
      const started = await admin.startRun(request);
      await trained;
      one.child.kill("SIGTERM");
      expect(await one.ended).toEqual([0, null]);
      await until("leader", two);
      const again = await supervisor.serve(folders[0]);
      expect(await readyOf(again)).toMatchObject({ role: "standby", ready: true });
      await released;
      two.child.kill("SIGTERM");
      expect(await two.ended).toEqual([0, null]);
      await until("leader", again);
      const ends = await Promise.all(taking);
      return { run: started.run, outcomes: ends.map(({ runs }) => runs.map(({ outcome }) => outcome)) };
    });
    expect(outcomes).toEqual(NAMES.map(() => ["finished"]));
    const { history } = await asOwner(folders[0], (admin) => admin.status(create(RunRequestSchema, { run })));
    expect(history.map(({ round, survivors }) => [round, survivors])).toEqual([
      [0, 3],
      [1, 3],
      [2, 3],
    ]);
    await Promise.all(devices.map((device) => device.close()));
    // Three reigns wrote one log, whole.
    const reader = await openReader(folders[0], await readConfig(folders[0]));
    const epochs: string[] = [];
    await reader.audit([], {
      takes: ({ what, subject }) => void (what === "epoch.began" && epochs.push(subject)),
    });
    await reader.close();
    expect(epochs).toEqual(["1", "2", "3"]);
  },
);
