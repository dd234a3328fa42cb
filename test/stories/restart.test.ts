import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connectService } from "@tutti/client-sdk/node/grpc";
import { Device, join as joinFederation } from "@tutti/client-sdk/node/index";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { sha256 } from "@tutti/foundation/hash";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { signPlan } from "@tutti/release/plan";
import { Admin, PutPartSchema, RunRequestSchema, StartRunRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { clouds, prepared } from "../../apps/client-sdk/test/mlp.ts";

/** `tutti serve` as an operator's supervisor sees it: a process that is told to stop, and started again. */

const random = platformRandom();
const NAMES = ["ann", "bob", "eve"];
const TUTTI = fileURLToPath(new URL("../../apps/cli/bin/tutti.mjs", import.meta.url));
let home: string;
let federation: string;
const children = new Set<ChildProcess>();
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-restart-"));
  federation = join(home, "federation");
  const about = { folder: federation, name: "f", host: "127.0.0.1", port: await freePort() };
  await initFederation({ ...about, random, nowMs: Date.now() });
  const file = join(federation, "tutti.json");
  const config = JSON.parse(await readFile(file, "utf8"));
  await writeFile(file, JSON.stringify({ ...config, operations: { port: await freePort() } }));
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  children.clear();
});
afterAll(() => rm(home, { recursive: true, force: true }));

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

type Serving = {
  readonly child: ChildProcess;
  readonly result: { readonly address: string; readonly operationsPort: number; readonly role: string };
  /** Exit code and signal. */
  readonly ended: Promise<readonly [number | null, string | null]>;
  readonly events: () => string[];
};

async function serve(): Promise<Serving> {
  const child = spawn(process.execPath, [TUTTI, "--json", "serve", federation]);
  children.add(child);
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += chunk;
  });
  const ended = new Promise<readonly [number | null, string | null]>((resolve) =>
    child.once("exit", (...how) => resolve(how)),
  );
  const first = await Promise.race([
    new Promise<string>((resolve) => child.stdout.once("data", (line) => resolve(`${line}`))),
    ended.then((how) => Promise.reject(new Error(`tutti serve ended with ${how}: ${said}`))),
  ]);
  const events = () => said.split("\n").flatMap((line) => (line ? [JSON.parse(line).event as string] : []));
  return { child, result: JSON.parse(first), ended, events };
}

async function joined(name: string, address: string): Promise<Device> {
  const folder = join(home, name);
  const token = await createToken({ folder: federation, name, days: 1, random, nowMs: Date.now() });
  await joinFederation({ joinFile: joinFileText({ ...token, address }), folder, random });
  return await Device.open({ folder, data: clouds(40, seededRandom(name)) });
}

test("told to stop in the middle of a round, it exits with 0; started again, the round goes on", {
  timeout: 180_000,
}, async () => {
  const before = await serve();
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

  const after = await serve();
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

async function* parts(bytes: Uint8Array) {
  const header = { sha256: sha256(bytes), totalBytes: bytes.length };
  yield create(PutPartSchema, { part: { case: "header", value: header } });
  yield create(PutPartSchema, { part: { case: "chunk", value: bytes } });
}
