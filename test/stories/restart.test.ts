import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectService } from "@tutti/client-sdk/node/grpc";
import { Device, join as joinFederation } from "@tutti/client-sdk/node/index";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { signPlan } from "@tutti/release/plan";
import { Admin, RunRequestSchema, StartRunRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { clouds, prepared } from "../../apps/client-sdk/test/mlp.ts";
import { freePort } from "../../claims/support/free-port.ts";
import { parts, Supervisor } from "./serving.ts";

/** `tutti serve` as an operator's supervisor sees it: a process that is told to stop, and started again. */

const random = platformRandom();
const NAMES = ["ann", "bob", "eve"];
let home: string;
let federation: string;
const supervisor = new Supervisor();
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-restart-"));
  federation = join(home, "federation");
  const about = { folder: federation, name: "f", host: "127.0.0.1", port: await freePort() };
  await initFederation({ ...about, random, nowMs: Date.now() });
  const file = join(federation, "tutti.json");
  const config = JSON.parse(await readFile(file, "utf8"));
  await writeFile(file, JSON.stringify({ ...config, operations: { port: await freePort() } }));
});
afterEach(() => supervisor.killAll());
afterAll(() => rm(home, { recursive: true, force: true }));

async function joined(name: string, address: string): Promise<Device> {
  const folder = join(home, name);
  const token = await createToken({ folder: federation, name, days: 1, random, nowMs: Date.now() });
  await joinFederation({ joinFile: joinFileText({ ...token, address }), folder, random });
  return await Device.open({ folder, data: clouds(40, seededRandom(name)) });
}

test("told to stop in the middle of a round, it exits with 0; started again, the round goes on", {
  timeout: 180_000,
}, async () => {
  const before = await supervisor.serve(federation);
  expect(before.result.role).toBe("leader");
  const ready = () => fetch(`http://127.0.0.1:${before.result.operationsPort}/readyz`);
  expect((await ready()).status).toBe(200);
  const { plan, base, initial } = prepared({ rounds: 2, update: { maxWeight: 100 } });
  const devices = await Promise.all(NAMES.map((name) => joined(name, before.result.address)));
  const owner = await openOwner(federation);
  const { tls, name, key } = owner;
  const admin = connectService(Admin, { address: before.result.address, tls, name, key });
  for (const bytes of [base, initial]) await admin.put(parts(bytes));
  // The first that says it trained is when the coordinator is told to stop: others still train.
  const trained = new Promise<void>((resolve) => {
    for (const device of devices) device.on(({ kind }) => void (kind === "trained" && resolve()));
  });
  const reconnected = new Set<string>();
  const taking = devices.map((device) => {
    device.on((event) => {
      if (event.kind === "state" && event.state === "reconnecting") reconnected.add(device.name);
    });
    return device.participate();
  });
  const request = create(StartRunRequestSchema, { plan: signPlan(plan, owner) });
  const { run } = await admin.startRun(request);
  await trained;
  before.child.kill("SIGTERM");
  expect(await before.ended).toEqual([0, null]);
  expect(before.events().slice(-2)).toEqual(["serve.stopping", "serve.stopped"]);
  await expect(ready()).rejects.toThrow();

  const after = await supervisor.serve(federation);
  const ends = await Promise.all(taking);
  expect(ends.map(({ runs }) => runs.map(({ outcome }) => outcome))).toEqual(NAMES.map(() => ["finished"]));
  expect([...reconnected].sort()).toEqual(NAMES);
  const { history } = await admin.status(create(RunRequestSchema, { run }));
  // No attempt failed, and nobody's update is missing: the same round went on with the same devices.
  expect(history.map(({ round, survivors }) => [round, survivors])).toEqual([
    [0, 3],
    [1, 3],
    [2, 3],
  ]);
  expect((await admin.status(create(RunRequestSchema, { run }))).reason).toBe("");
  await Promise.all(devices.map((device) => device.close()));
  admin.close();
  after.child.kill("SIGTERM");
  expect(await after.ended).toEqual([0, null]);
  expect(after.events()).toContain("serve.stopped");
});
