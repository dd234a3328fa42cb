import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { freePort } from "../../../../claims/support/free-port.ts";
import type { ConfigInput } from "../../src/folder/config.ts";
import { initFederation } from "../../src/folder/init.ts";
import type { Levels } from "../../src/observe/levels.ts";
import { openMeters } from "../../src/observe/meters.ts";
import { readiness } from "../../src/operate/health.ts";
import { serveHttp } from "../../src/operate/http.ts";
import { Writes } from "../../src/operate/writes.ts";
import { type Server, serveFederation } from "../../src/serve.ts";
import type { Store } from "../../src/store/store.ts";
import { TestClock } from "../drive/house.ts";

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-operate-"));
});
afterEach(() => rm(home, { recursive: true, force: true }));

async function federation(more: Partial<ConfigInput>): Promise<string> {
  const folder = join(home, "federation");
  const random = platformRandom();
  await initFederation({ folder, name: "f", host: "127.0.0.1", port: 1, random, nowMs: Date.now() });
  const file = join(folder, "tutti.json");
  await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, "utf8")), ...more }));
  return folder;
}

const LEVELS: Levels = {
  devices: { present: 3, invited: 2, ready: 1 },
  runsRunning: 1,
  journalEntries: 9,
  held: { connections: 4, newcomers: 2, calls: 1, turned: new Map([["busy", 3]] as const) },
  stopping: false,
  role: "leader",
  epoch: 7,
  certificates: { tls: 1000, coordinator: 1000 },
};

test("a private key that others may read is warned of when the coordinator starts", async () => {
  const folder = await federation({ log: { format: "json" } });
  await chmod(join(folder, "coordinator/coordinator.key"), 0o644);
  await chmod(join(folder, "coordinator/tls.key"), 0o440);
  const lines: string[] = [];
  const spy = vi.spyOn(process.stderr, "write").mockImplementation((text) => lines.push(`${text}`) > 0);
  await (await serveFederation({ folder, port: 0 })).close();
  spy.mockRestore();
  const said = lines
    .join("")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const about = { level: "warn", file: "coordinator/coordinator.key", mode: "644" };
  expect(said.filter(({ event }) => event === "key.open")).toMatchObject([about]);
});

describe("a coordinator's operations port", () => {
  let server: Server | undefined;
  afterEach(() => server?.close());

  test("is not there unless it is configured", async () => {
    server = await serveFederation({ folder: await federation({}), port: 0 });
    expect(server.operationsPort).toBeUndefined();
  });

  test("answers live, ready and metrics; nothing else, and only GET", async () => {
    server = await serveFederation({ folder: await federation({ operations: { port: 0 } }), port: 0 });
    const at = (path: string, init?: RequestInit) =>
      fetch(`http://127.0.0.1:${server!.operationsPort}${path}`, init);
    expect(await (await at("/livez")).json()).toEqual({ live: true });
    const ready = await at("/readyz");
    expect(ready.status).toBe(200);
    expect(await ready.json()).toMatchObject({ ready: true, role: "leader" });
    const metrics = await at("/metrics");
    expect(metrics.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await metrics.text();
    expect(text).toContain('tutti_devices{state="present"} 0');
    expect(text).toContain("tutti_leader 1");
    expect(text).toMatch(/tutti_certificate_expiry_seconds\{certificate="tls"\} 7\d{7}/);
    expect(text).toMatch(/^nodejs_eventloop_lag_seconds /m);
    expect((await at("/")).status).toBe(404);
    expect((await at("/metrics/../etc")).status).toBe(404);
    expect((await at("/constructor")).status).toBe(404);
    expect((await at("/metrics", { method: "POST", body: "x" })).status).toBe(405);
    expect((await at("/livez", { method: "HEAD" })).status).toBe(200);
  });

  test("a port that is taken is told by name", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    await expect(serveHttp({ host: "127.0.0.1", port }, {})).rejects.toThrow(/operations.*EADDRINUSE/);
    other.close();
  });

  test("a port of devices that is taken comes with where to change it", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    const taken = serveFederation({ folder: await federation({}), port });
    await expect(taken).rejects.toThrow(/EADDRINUSE.*change listen\.port in tutti\.json.*tutti doctor/);
    other.close();
  });

  test("one that is taken ends the start whole, and so does the port of devices", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    const folder = await federation({ operations: { port } });
    const grpc = await freePort();
    await expect(serveFederation({ folder, port: grpc })).rejects.toMatchObject({ code: "unavailable" });
    await expect(serveFederation({ folder, port })).rejects.toMatchObject({ code: "unavailable" });
    await new Promise((resolve) => other.close(resolve));
    // Both ports and the store are free.
    server = await serveFederation({ folder, port: grpc });
    expect(server.operationsPort).toBe(port);
    // Nobody led before.
    expect(server.role()).toEqual({ kind: "leader", epoch: 1 });
  });
});

describe("a store that answers and takes nothing, as on a full disk", () => {
  const full = () => Promise.reject(new Fault("storage", "committing", { got: "database or disk is full" }));

  test("is not ready, and why is said, until a write goes through", async () => {
    let room = true;
    const server = await serveFederation({
      folder: await federation({ operations: { port: 0 } }),
      port: 0,
      around: (store) => ({ ...store, note: (note) => (room ? store.note(note) : full()) }),
    });
    const note = () => server.coordinator.parts.store.note({ actor: "a", what: "b", subject: "c" });
    const ready = async () => {
      const answer = await fetch(`http://127.0.0.1:${server.operationsPort}/readyz`);
      return [answer.status, await answer.text()];
    };
    expect(await ready()).toEqual([200, expect.not.stringContaining("full")]);
    room = false;
    await expect(note()).rejects.toThrow("full");
    expect(await ready()).toEqual([503, expect.stringContaining("database or disk is full")]);
    room = true;
    await note();
    expect((await ready())[0]).toBe(200);
    await server.close();
  });

  test("where no other write comes a small one is tried; a conflict is no failure", async () => {
    let nowMs = 0;
    const writes = new Writes(Object.assign(new TestClock(), { nowMs: () => nowMs }));
    const failing = (fault: Fault) =>
      writes.over({ commit: () => Promise.reject(fault) } as unknown as Store).commit("r", {});
    await expect(failing(new Fault("conflict", "journal entry 3"))).rejects.toThrow("journal");
    expect(await writes.trouble(full)).toBe("");
    await expect(failing(new Fault("storage", "committing", { got: "EIO" }))).rejects.toThrow("EIO");
    expect(await writes.trouble(async () => {})).toMatch(/EIO/);
    nowMs = 10_000;
    expect(await writes.trouble(full)).toMatch(/full/);
    nowMs = 20_000;
    expect(await writes.trouble(async () => {})).toBe("");
  });
});

describe("readiness", () => {
  const parts = (change: Partial<Levels>, askStore = async (): Promise<unknown> => undefined) => ({
    levels: () => ({ ...LEVELS, ...change }),
    askStore,
    clock: new TestClock(),
  });
  const wrong = async (given: Parameters<typeof readiness>[0]) => {
    const { ready, checks } = await readiness(given);
    const names = checks.filter(({ ok }) => !ok).map(({ name }) => name);
    expect(ready).toBe(names.length === 0);
    return names;
  };

  test("goes when it stops, when a certificate is over, when its store fails", async () => {
    expect(await wrong(parts({}))).toEqual([]);
    expect(await wrong(parts({ role: "standby" }))).toEqual([]);
    expect(await wrong(parts({ stopping: true }))).toEqual(["serving"]);
    expect(await wrong(parts({ certificates: { tls: -1 } }))).toEqual(["certificates"]);
    const failing = () => Promise.reject(new Error("no route to postgres://tutti:hunter2@db/tutti"));
    expect(await wrong(parts({}, failing))).toEqual(["store"]);
    expect(JSON.stringify(await readiness(parts({}, failing)))).not.toContain("hunter2");
  });

  test("a store that says nothing is not waited for", async () => {
    const given = parts({}, () => new Promise(() => {}));
    const asked = wrong(given);
    given.clock.next();
    expect(await asked).toEqual(["store"]);
  });
});

describe("metrics", () => {
  const which = { run: "r", round: 0, attempt: 0, beganMs: 0, ms: 1500 };

  test("count what is seen", async () => {
    const meters = openMeters(() => LEVELS);
    meters.observe({ kind: "phase", phase: "training", attemptBeganMs: 0, ...which });
    meters.observe({ kind: "attempt", outcome: "published", devices: 3, reason: "", ...which });
    meters.observe({ kind: "attempt", outcome: "failed", devices: 0, reason: "too few", ...which });
    const call = {
      kind: "call",
      beganMs: 0,
      ms: 3000,
      ackMs: 20,
      bytes: 100,
      traceparent: undefined,
    } as const;
    meters.observe({ ...call, method: "Upload", code: "OK" });
    meters.observe({ ...call, method: "Listen", code: "UNAVAILABLE" });
    const stored = { kind: "stored", run: "r", beganMs: 0, ms: 4 } as const;
    meters.observe({ ...stored, operation: "store.commit", entries: 10, ok: true });
    meters.observe({ ...stored, operation: "store.commit", entries: 0, ok: false });
    const text = await meters.text();
    for (const line of [
      'tutti_rounds_total{outcome="published"} 1',
      'tutti_rounds_total{outcome="failed"} 1',
      'tutti_phase_seconds_sum{phase="training"} 1.5',
      'tutti_received_bytes_total{method="Upload"} 100',
      'tutti_refusals_total{code="UNAVAILABLE"} 1',
      "tutti_acknowledgement_seconds_count 1",
      'tutti_acknowledgement_seconds_bucket{le="0.025"} 1',
      "tutti_commits_total 2",
      "tutti_commit_entries_sum 10",
      'tutti_store_failures_total{operation="store.commit"} 1',
      'tutti_devices{state="ready"} 1',
      "tutti_epoch 7",
      "tutti_connections 4",
      "tutti_journal_entries 9",
      'tutti_turned_away_total{cause="busy"} 3',
    ])
      expect(text).toContain(`${line}\n`);
  });

  test("each says what it is", () => {
    const all = openMeters(() => LEVELS).all();
    expect(all.length).toBeGreaterThan(15);
    for (const { name, help } of all) {
      expect(name).toMatch(/^tutti_[a-z_]+$/);
      expect(help).toMatch(/^[A-Z0-9].{15,}\.$/s);
    }
  });
});
