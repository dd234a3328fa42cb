import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server as NetServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openAudit } from "@tutti/client-sdk/node/audit";
import { examineDevice } from "@tutti/client-sdk/node/doctor";
import { join as joinFederation } from "@tutti/client-sdk/node/join";
import { initFederation } from "@tutti/coordinator/folder/init";
import { PATHS } from "@tutti/coordinator/folder/layout";
import { newTls } from "@tutti/coordinator/folder/tls";
import { createToken } from "@tutti/coordinator/folder/token";
import { standby } from "@tutti/coordinator/lead/gate";
import type { Role } from "@tutti/coordinator/lead/keeper";
import { examineFederation } from "@tutti/coordinator/operate/doctor/doctor";
import { clockOf, nodeVersion, openFiles } from "@tutti/coordinator/operate/doctor/machine";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { openSqliteDriver } from "@tutti/coordinator/store/sqlite-driver";
import { expiry, type Finding, skew } from "@tutti/foundation/finding";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { faultBytes, faultFromGrpc } from "@tutti/wire/status";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { freePort } from "../../../claims/support/free-port.ts";
import { doctorCommand } from "../src/commands/doctor.ts";

const random = platformRandom();
let home: string;
let folder: string;
let device: string;
let port: number;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-doctor-"));
  folder = join(home, "federation");
  device = join(home, "ward-7");
  port = await freePort();
  await initFederation({ folder, name: "f", host: "127.0.0.1", port, random, nowMs: Date.now() });
});
afterAll(() => rm(home, { recursive: true, force: true }));

function listening(port: number): Promise<NetServer> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

const unreachable = () => Promise.reject(new Error("nobody there"));
const states = (findings: readonly Finding[]) =>
  Object.fromEntries(findings.filter(({ state }) => state !== "ok").map(({ what, state }) => [what, state]));
const look = async () => states(await examineFederation(folder, unreachable));
const lookAtDevice = async () => states(await examineDevice(device));

/** Changes a file for as long as `body` runs. */
async function changed<T>(path: string, text: string, body: () => Promise<T>): Promise<T> {
  const before = await readFile(path);
  await writeFile(path, text);
  try {
    return await body();
  } finally {
    await writeFile(path, before);
  }
}

/** Runs the command; its exit as a Fault's code, and what it printed. */
async function doctor(...args: readonly string[]): Promise<{ code: string; out: string }> {
  let out = "";
  const spy = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  try {
    const root = new Command("tutti").option("--json").exitOverride();
    const line = root.addCommand(doctorCommand().copyInheritedSettings(root));
    const code = await line.parseAsync(["doctor", ...args], { from: "user" }).then(
      () => "",
      (error: { code: string }) => error.code,
    );
    return { code, out };
  } finally {
    spy.mockRestore();
  }
}

describe("before the first start", () => {
  test("all is well, but that there is no store yet and that authority/ is here", async () => {
    const before = (await readdir(folder, { recursive: true })).sort();
    expect(await look()).toEqual({
      "authority key": "warn",
      coordinator: "warn",
      store: "warn",
    });
    expect((await readdir(folder, { recursive: true })).sort()).toEqual(before);
    const { code, out } = await doctor(folder);
    expect(code).toBe("");
    expect(out).toMatch(/^ok {4}tutti\.json/m);
    expect(out).toMatch(/^warn {2}authority key .*Keep authority\/ offline/m);
    expect(out).toMatch(/\d+ ok, 3 warn, 0 fail\n$/);
  });

  test("what is wrong is named, with what to do", async () => {
    const key = join(folder, "coordinator/coordinator.key");
    // `tutti serve` works with it, and warns too.
    await chmod(key, 0o644);
    const { code, out } = await doctor(folder);
    await chmod(key, 0o600);
    expect(code).toBe("");
    expect(out).toMatch(/^warn {2}coordinator key .*644.*chmod 600/m);
    // As Kubernetes mounts a secret for a group.
    await chmod(key, 0o440);
    expect((await doctor(folder)).out).toMatch(/^ok {4}coordinator key .*440/m);
    await chmod(key, 0o600);
    const config = join(folder, "tutti.json");
    expect(await changed(config, "{", look)).toEqual({ "tutti.json": "fail" });
    const other = await newTls({ name: "x", host: "h", nowMs: Date.now() });
    expect(await changed(join(folder, "coordinator/tls.pem"), other.certificate, look)).toMatchObject({
      "TLS certificate": "fail",
    });
    const later = Date.now() - 900 * 86_400_000;
    const old = await newTls({ name: "x", host: "h", nowMs: later });
    const pem = join(folder, "coordinator/tls.pem");
    const both = () => changed(join(folder, "coordinator/tls.key"), old.key, look);
    expect(await changed(pem, old.certificate, both)).toMatchObject({ "TLS certificate": "fail" });
    const seed = join(folder, "coordinator/coordinator.key");
    expect(await changed(seed, "00".repeat(32), look)).toMatchObject({ "coordinator certificate": "fail" });
    const given = JSON.parse(await readFile(config, "utf8"));
    const elsewhere = JSON.stringify({ ...given, artifacts: { folder: "coordinator/coordinator.cert" } });
    expect(await changed(config, elsewhere, look)).toMatchObject({ artifacts: "fail" });
  });

  test("a store that the first start makes is a warning; a file that nobody makes is a failure", async () => {
    const config = join(folder, "tutti.json");
    const given = JSON.parse(await readFile(config, "utf8"));
    const store = { engine: "postgres", urlFile: "nowhere" };
    const absent = JSON.stringify({ ...given, store });
    expect(await changed(config, absent, look)).toMatchObject({ store: "fail" });
    const made = join(folder, PATHS.store);
    await writeFile(made, "");
    const findings = await examineFederation(folder, unreachable);
    await rm(made);
    expect(findings.find(({ what }) => what === "store")).toMatchObject({ state: "warn" });
    // What no coordinator has opened has no leader and no log to look at.
    expect(findings.filter(({ what }) => ["leader", "audit log"].includes(what))).toEqual([]);
  });

  test("a folder of artifacts that is not there yet is one warning, with what to do", async () => {
    const config = join(folder, "tutti.json");
    const given = JSON.parse(await readFile(config, "utf8"));
    const store = { engine: "postgres", url: "postgres://127.0.0.1:1/nowhere" };
    const artifacts = { folder: join(folder, "not", "made") };
    const { out } = await changed(config, JSON.stringify({ ...given, store, artifacts }), () =>
      doctor(folder),
    );
    expect(out).toMatch(/^warn {2}artifacts .*not\/made is not there yet\. Make /m);
    expect(out).not.toMatch(/ENOENT|^fail {2}disk/m);
  });

  test("an address of another machine, and a certificate that is none, are told as that", async () => {
    const config = join(folder, "tutti.json");
    const given = JSON.parse(await readFile(config, "utf8"));
    // TEST-NET-1 (RFC 5737) is nobody's.
    const elsewhere = JSON.stringify({ ...given, listen: { ...given.listen, host: "192.0.2.1" } });
    const { out } = await changed(config, elsewhere, () => doctor(folder));
    expect(out).toMatch(/^fail {2}port .*192\.0\.2\.1 is no address of this machine.*listen\.host/m);
    const garbage = await changed(join(folder, "coordinator/tls.pem"), "garbage", () => doctor(folder));
    expect(garbage.out).toMatch(/^fail {2}TLS certificate .*expected a PEM file, got other text.*tls renew/m);
    expect(garbage.out).not.toMatch(/error:|PEM routines/);
  });

  test("a port that another program has", async () => {
    const other = await listening(port);
    expect(await look()).toMatchObject({ port: "fail" });
    await new Promise((resolve) => other.close(resolve));
  });
});

test("a coordinator that stands by is well, as it says itself over the wire", async () => {
  const answers = (role: Role) => () =>
    Promise.reject(faultFromGrpc({ code: 14, details: "", fault: faultBytes(standby(role)) }));
  const said = async (hello: () => Promise<number>) =>
    (await examineFederation(folder, hello)).find(({ what }) => what === "coordinator");
  expect(await said(answers({ kind: "standby", leader: "b.example.org:7443" }))).toMatchObject({
    state: "ok",
    says: "stands by; b.example.org:7443 leads",
  });
  const alone = { state: "ok", says: "stands by; no other leads yet" };
  expect(await said(answers({ kind: "standby", leader: null }))).toMatchObject(alone);
  expect(await said(answers({ kind: "leader", epoch: 1 }))).toMatchObject(alone);
  expect(await said(unreachable)).toMatchObject({ state: "warn" });
});

describe("beside a running coordinator", () => {
  let server: Server;
  beforeAll(async () => {
    server = await serveFederation({ folder });
    const token = await createToken({ folder, name: "ward-7", days: 90, random, nowMs: Date.now() });
    await joinFederation({ joinFile: joinFileText(token), folder: device, random });
  });
  afterAll(() => server.close());

  test("its port is known as its own, its store and its log are whole", async () => {
    const { code, out } = await doctor(folder);
    expect(code).toBe("");
    expect(out).toMatch(/^ok {4}port .*this federation's coordinator/m);
    expect(out).toMatch(/^ok {4}coordinator +0 s .*the coordinator that answers/m);
    expect(out).toMatch(/^ok {4}store +sqlite, migration (\d+) of \1$/m);
    expect(out).toMatch(/^ok {4}store settings +journal_mode wal/m);
    expect(out).toMatch(/^ok {4}leader +epoch 1/m);
    expect(out).toMatch(/^ok {4}audit log +whole, 2 entries/m);
  });

  test("an audit log that was changed comes with what to do", async () => {
    const file = openSqliteDriver(join(folder, PATHS.store));
    const swap = (from: string, to: string) =>
      file.exec(`update audit set line = replace(line, '${from}', '${to}') where seq = 0`);
    swap("epoch.began", "epoch.begun");
    const { out } = await doctor(folder);
    swap("epoch.begun", "epoch.began");
    file.close();
    expect(out).toMatch(/^fail {2}audit log .*Keep the store as it is.*tutti audit verify/m);
    expect((await doctor(folder)).out).toMatch(/^ok {4}audit log/m);
  });

  test("metrics: only this federation's coordinator is right there, not another's", async () => {
    const config = join(folder, "tutti.json");
    const given = JSON.parse(await readFile(config, "utf8"));
    const neighbour = join(home, "neighbour");
    await initFederation({
      folder: neighbour,
      name: "f",
      host: "127.0.0.1",
      port,
      random,
      nowMs: Date.now(),
    });
    const free = await freePort();
    for (const [name, at] of [
      ["f", config],
      ["neighbour", join(neighbour, "tutti.json")],
    ] as const)
      await writeFile(at, JSON.stringify({ ...given, name, operations: { port: free } }));
    try {
      await server.close();
      server = await serveFederation({ folder });
      expect((await doctor(folder)).out).toMatch(/^ok {4}operations port +this federation's .*ready$/m);
      await server.close();
      server = await serveFederation({ folder: neighbour });
      const { code, out } = await doctor(folder);
      expect(code).toBe("refused");
      expect(out).toMatch(
        /^fail {2}operations port .*another federation .*neighbour\. Change operations\.port/m,
      );
    } finally {
      await server.close();
      await writeFile(config, JSON.stringify(given));
      server = await serveFederation({ folder });
    }
  });

  test("a device that joined: all is well; what is not is named", async () => {
    const { code, out } = await doctor("--device", device);
    expect(code).toBe("");
    const one =
      /^ok {4}coordinator +127\.0\.0\.1:\d+, the only address it knows, answers with a pinned.*; 0 s/m;
    expect(out).toMatch(one);
    await chmod(join(device, "device.key"), 0o640);
    expect(await lookAtDevice()).toMatchObject({ key: "fail" });
    await chmod(join(device, "device.key"), 0o600);
    expect(await changed(join(device, "policy.json"), "{}", lookAtDevice)).toEqual({ policy: "fail" });
    const config = JSON.parse(await readFile(join(device, "device.json"), "utf8"));
    const gone = JSON.stringify({ ...config, address: `127.0.0.1:${await freePort()}` });
    expect(await changed(join(device, "device.json"), gone, lookAtDevice)).toEqual({ coordinator: "fail" });
    const log = openAudit(join(device, "audit.log"), { device: "ward-7", wallMs: Date.now });
    log.note({ actor: "a", what: "b", subject: "c" });
    expect(await lookAtDevice()).toEqual({});
    expect(await changed(join(device, "audit.log"), "", lookAtDevice)).toEqual({ "audit log": "fail" });
  }, 60_000);
});

describe("what each look says", () => {
  const DAY_S = 86_400;
  test("certificates: a month before they end it is time", () => {
    expect(expiry(100 * DAY_S, 0, "renew").state).toBe("ok");
    expect(expiry(20 * DAY_S, 0, "renew")).toMatchObject({ state: "warn", todo: "renew" });
    expect(expiry(0, 1, "renew").state).toBe("fail");
  });

  test("clocks", () => {
    expect(skew(0, 59_000, "it").state).toBe("ok");
    expect(skew(0, 61_000, "it")).toMatchObject({ state: "warn", says: "61 s behind it" });
    expect(skew(4e6, 0, "it").state).toBe("fail");
    expect(clockOf(0).state).toBe("fail");
    expect(clockOf(Date.now()).state).toBe("ok");
  });

  test("machines", () => {
    expect(nodeVersion("18.20.0").state).toBe("fail");
    expect(nodeVersion("20.18.9").state).toBe("fail");
    expect(nodeVersion("20.19.0").state).toBe("ok");
    expect(nodeVersion("24.1.0").state).toBe("ok");
    const limit = (soft: string) =>
      `Max open files            ${soft}              524288               files`;
    expect(openFiles(limit("1024"), 10_000).state).toBe("warn");
    expect(openFiles(limit("65536"), 10_000).state).toBe("ok");
    expect(openFiles(limit("unlimited"), 10_000).state).toBe("ok");
    expect(openFiles("", 10_000).state).toBe("ok");
  });
});
