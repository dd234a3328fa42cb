import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectService } from "@tutti/client-sdk/node/grpc";
import { Device, join as joinFederation } from "@tutti/client-sdk/node/index";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { base64, fromBase64, fromHex, hex } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { signPlan } from "@tutti/release/plan";
import { Admin, PutPartSchema, StartRunRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { Command } from "commander";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { auditCommand } from "../../apps/cli/src/commands/audit/audit.ts";
import { clouds, prepared } from "../../apps/client-sdk/test/mlp.ts";

/**
 * A whole federation with everything on that tells of it: the log, the metrics, the audit logs of both sides.
 * What they say is right, and none of them says a secret.
 */

const random = platformRandom();
const NAMES = ["ann", "bob", "eve"];
const lines: string[] = [];
/** Of every key, seed and token there is: its bytes. */
const secrets: Uint8Array[] = [];
let home: string;
let federation: string;
let server: Server;
let run: string;
let metrics: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-observed-"));
  federation = join(home, "federation");
  await initFederation({
    folder: federation,
    name: "f",
    host: "127.0.0.1",
    port: 1,
    random,
    nowMs: Date.now(),
  });
  const file = join(federation, "tutti.json");
  const config = JSON.parse(await readFile(file, "utf8"));
  const more = { operations: { port: 0 }, log: { level: "debug", format: "json" } };
  await writeFile(file, JSON.stringify({ ...config, ...more }));
  const spy = vi.spyOn(process.stderr, "write").mockImplementation((text) => lines.push(`${text}`) > 0);
  try {
    server = await serveFederation({ folder: federation, port: 0 });
    run = await wholeRun();
    metrics = await (await fetch(`http://127.0.0.1:${server.operationsPort}/metrics`)).text();
  } finally {
    spy.mockRestore();
  }
}, 120_000);
afterAll(async () => {
  await server?.close();
  await rm(home, { recursive: true, force: true });
});

/** Three devices join, train and serve what came of it. */
async function wholeRun(): Promise<string> {
  const { plan, base, initial } = prepared({ rounds: 1, update: { maxWeight: 100 } });
  const devices = await Promise.all(NAMES.map(joined));
  const owner = await openOwner(federation);
  const { tls, name, key } = owner;
  const admin = connectService(Admin, { address: server.address, tls, name, key });
  for (const bytes of [base, initial])
    await admin.put(
      (async function* () {
        const header = { sha256: sha256(bytes), totalBytes: bytes.length };
        yield create(PutPartSchema, { part: { case: "header", value: header } });
        yield create(PutPartSchema, { part: { case: "chunk", value: bytes } });
      })(),
    );
  const taking = devices.map((device) => device.participate());
  const request = create(StartRunRequestSchema, { plan: signPlan(plan, owner) });
  const started = await admin.startRun(request);
  const ends = await Promise.all(taking);
  expect(ends.flatMap(({ runs }) => runs.map(({ outcome }) => outcome))).toEqual(NAMES.map(() => "finished"));
  await Promise.all(devices.map((device) => device.close()));
  admin.close();
  return started.run;
}

async function joined(name: string): Promise<Device> {
  const folder = join(home, name);
  const token = await createToken({ folder: federation, name, days: 1, random, nowMs: Date.now() });
  secrets.push(token.token.secret!);
  const joinFile = joinFileText({ ...token, address: server.address });
  await joinFederation({ joinFile, folder, random });
  secrets.push(fromBase64((await readFile(join(folder, "device.key"), "utf8")).trim(), "key"));
  return await Device.open({ folder, data: clouds(40, seededRandom(name)) });
}

/** A command line's JSON. */
async function tutti(...args: readonly string[]): Promise<Record<string, unknown>> {
  let out = "";
  const spy = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  try {
    const root = new Command("tutti").option("--json").exitOverride();
    root.addCommand(auditCommand().copyInheritedSettings(root));
    await root.parseAsync(["--json", ...args], { from: "user" });
    return JSON.parse(out.trim().split("\n").at(-1)!);
  } finally {
    spy.mockRestore();
  }
}

test("the log tells of the run in events, each a JSON object", () => {
  const said = lines
    .join("")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const events = said.map(({ event }) => event);
  expect(events[0]).toBe("serve.started");
  const joined = said.filter(({ event }) => event === "device.enrolled").map(({ device }) => device);
  expect(joined.sort()).toEqual([...NAMES].sort());
  const overs = said.filter(({ event }) => event === "round.over");
  expect(overs).toMatchObject([
    { outcome: "published", round: 0, devices: 3 },
    { outcome: "evaluated", round: 1, devices: 3 },
  ]);
  expect(said.filter(({ event }) => event === "run.over")).toMatchObject([{ state: "finished" }]);
  const phases = said.filter(({ event, round }) => event === "phase.over" && round === 0);
  expect(phases.map(({ phase }) => phase)).toEqual(
    expect.arrayContaining([
      "training",
      "advertising",
      "sharing",
      "masking",
      "attesting",
      "revealing",
      "unmasking",
    ]),
  );
  expect(said.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
});

test("the metrics count it", () => {
  for (const line of [
    'tutti_rounds_total{outcome="published"} 1',
    'tutti_rounds_total{outcome="evaluated"} 1',
    'tutti_runs_total{state="finished"} 1',
    'tutti_calls_total{method="Upload",code="OK"} 6',
    "tutti_runs_running 0",
  ])
    expect(metrics).toContain(`${line}\n`);
  expect(metrics).toMatch(/tutti_acknowledgement_seconds_count [1-9]/);
  expect(metrics).toMatch(/tutti_received_bytes_total\{method="Upload"\} [1-9]/);
});

test("both audit logs are whole, and what devices were told of the coordinator's fits it", async () => {
  const devices = NAMES.map((name) => join(home, name));
  const against = devices.flatMap((folder) => ["--against", folder]);
  const whole = await tutti("audit", "verify", "--federation", federation, ...against);
  expect(whole).toMatchObject({ of: "the coordinator of f", tornBytes: 0 });
  expect(whole.remembered).toBeGreaterThanOrEqual(NAMES.length);
  const { entries } = (await tutti("audit", "show", "--federation", federation)) as { entries: Shown[] };
  const kinds = entries.map(({ what }) => what);
  expect(kinds.filter((what) => what === "device.enrolled")).toHaveLength(3);
  for (const what of ["artifact.put", "run.started", "release.published", "run.finished"])
    expect(kinds).toContain(what);
  for (const folder of devices) {
    await tutti("audit", "verify", "--device", folder);
    const own = (await tutti("audit", "show", "--device", folder, "--run", run.slice(0, 12))) as {
      entries: Shown[];
    };
    const what = own.entries.map((entry) => entry.what);
    expect(what).toEqual(
      expect.arrayContaining(["task.accepted", "data.used", "update.leaves", "shares.leave"]),
    );
    const update = own.entries.find((entry) => entry.what === "update.leaves");
    expect(update?.detail).toMatchObject({ masked: true, noise: false, round: 0 });
    expect(own.entries.find((entry) => entry.what === "release.activated")?.detail).toMatchObject({
      version: 1,
    });
  }
});

type Shown = { readonly what: string; readonly detail: Record<string, unknown> };

test("no key, seed, token or anything like one is in the log, the metrics or the audit logs", async () => {
  for (const folder of ["authority", "owner", "coordinator"])
    for (const name of await readdir(join(federation, folder)))
      if (name.endsWith(".key") && name !== "tls.key")
        secrets.push(fromHex((await readFile(join(federation, folder, name), "utf8")).trim(), name));
  expect(secrets).toHaveLength(3 + 2 * NAMES.length);
  const pem = (await readFile(join(federation, "coordinator", "tls.key"), "utf8")).split("\n")[1]!;
  const log = lines.join("");
  const audits = await Promise.all(NAMES.map((name) => readFile(join(home, name, "audit.log"), "utf8")));
  const { entries } = await tutti("audit", "show", "--federation", federation);
  const texts = { log, metrics, audits: audits.join(""), entries: JSON.stringify(entries) };
  for (const [what, text] of Object.entries(texts)) {
    for (const secret of secrets)
      for (const window of [
        hex(secret).slice(0, 24),
        base64(secret).slice(0, 20),
        [...secret.slice(0, 8)].join(),
      ])
        expect(text.includes(window), what).toBe(false);
    expect(text.includes(pem.slice(0, 24)), what).toBe(false);
    // Nonces, signatures, shares and sums would come as long runs of digits or letters, or as lists of bytes.
    expect(/\d+(,\s?\d+){7}/.test(text), what).toBe(false);
    if (what === "log" || what === "metrics")
      expect(text).not.toMatch(/[0-9a-f]{24,}|[A-Za-z0-9+/]{40,}={0,2}/i);
  }
  // An audit log has digests of what is public; a session's id, a task's, a release's.
  expect(texts.audits).toMatch(/[0-9a-f]{64}/);
});
