import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { newTls } from "@tutti/coordinator/folder/tls";
import { writeTls } from "@tutti/coordinator/folder/tls-files";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { systemClock } from "@tutti/foundation/clock";
import type { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { signPlan } from "@tutti/release/plan";
import { NO_REVOCATIONS, signRevocations, withRevoked } from "@tutti/release/revocations";
import {
  Admin,
  PutPartSchema,
  RevokeRequestSchema,
  RunRequestSchema,
  StartRunRequestSchema,
} from "@tutti/wire/admin";
import { HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { CheckInRequestSchema, ListenRequestSchema } from "@tutti/wire/round";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../../../claims/support/free-port.ts";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import { sharedCluster } from "../../../../claims/support/postgres/shared.ts";
import { examineDevice } from "../../src/node/doctor.ts";
import { readConfig, readIdentity } from "../../src/node/folder.ts";
import { connect, connectService, Device, join } from "../../src/node/index.ts";
import { clouds, prepared } from "../mlp.ts";

if (SKIP_POSTGRES) console.log(`replicas of a coordinator: skipped, ${NO_POSTGRES}`);

const random = platformRandom();
const NAMES = ["ann", "bob", "eve"];

/** Two coordinators in this process, on one PostgreSQL and one folder of artifacts. */
describe.skipIf(SKIP_POSTGRES)("two coordinators of one federation", () => {
  let home: string;
  let folders: string[];
  let ports: number[];
  const serving: Server[] = [];

  beforeAll(async () => {
    home = await mkdtemp(path(tmpdir(), "tutti-sdk-"));
    ports = [await freePort(), await freePort()];
    folders = [path(home, "one"), path(home, "two")];
    const [first, second] = folders as [string, string];
    const about = { name: "test", host: "127.0.0.1", port: ports[0]! };
    await initFederation({ folder: first, ...about, random, nowMs: Date.now() });
    await cp(first, second, { recursive: true });
    const url = await (await sharedCluster()).database();
    for (const [at, folder] of folders.entries()) {
      const file = path(folder, "tutti.json");
      const plain = JSON.parse(await readFile(file, "utf8"));
      const own = { port: ports[at], listen: { host: "127.0.0.1", port: ports[at] } };
      const shared = { store: { engine: "postgres", url }, artifacts: { folder: path(home, "artifacts") } };
      const addresses = ports.map((port) => `127.0.0.1:${port}`);
      await writeFile(file, JSON.stringify({ ...plain, ...own, ...shared, addresses }));
    }
    for (const folder of folders) serving.push(await serveFederation({ folder }));
  });
  afterAll(async () => {
    await Promise.all(serving.map((server) => server.close()));
    await rm(home, { recursive: true, force: true });
  });

  const leading = async () => {
    for (;;) {
      const leader = serving.find((server) => server.role().kind === "leader");
      const told = serving.every((server) => {
        const role = server.role();
        return role.kind === "leader" || role.leader !== null;
      });
      if (leader && told) return leader;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };

  async function joined(name: string): Promise<string> {
    const token = await createToken({ folder: folders[0]!, name, days: 1, random, nowMs: Date.now() });
    const folder = path(home, name);
    await join({ joinFile: joinFileText(token), folder, random });
    return folder;
  }

  test("a standby refuses everything and says who leads; who knows both finds that one", async () => {
    const leader = await leading();
    const standby = serving.find((server) => server !== leader)!;
    const { tls } = await openOwner(folders[0]!);
    const key = signingKey(newSeed(random));
    const refusal = {
      code: "unavailable",
      what: "this coordinator",
      detail: { got: "a standby", todo: `Ask ${leader.address}` },
    };
    const only = connect({ address: standby.address, tls, name: "x", key });
    await expect(only.hello(create(HelloRequestSchema))).rejects.toMatchObject(refusal);
    await expect(only.checkIn(create(CheckInRequestSchema))).rejects.toMatchObject(refusal);
    const words = only.listen(create(ListenRequestSchema))[Symbol.asyncIterator]();
    await expect(words.next()).rejects.toMatchObject(refusal);
    expect(() => standby.coordinator).toThrow(/standby/);
    only.close();
    const both = connect({ address: standby.address, addresses: [leader.address], tls, name: "x", key });
    expect((await both.hello(create(HelloRequestSchema))).session).toHaveLength(16);
    both.close();
  });

  test("the doctor of a site that knows a standby only says which address to add, and where", async () => {
    const leader = await leading();
    const standby = serving.find((server) => server !== leader)!;
    const folder = await joined("gus");
    const file = path(folder, "device.json");
    const { addresses: _, ...plain } = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...plain, address: standby.address }));
    const looked = async () => (await examineDevice(folder)).find(({ what }) => what === "coordinator");
    expect(await looked()).toMatchObject({
      state: "fail",
      says: expect.stringContaining("got a standby"),
      todo: expect.stringContaining(`Add "${leader.address}" to \`addresses\` in device.json`),
    });
    const off = `127.0.0.1:${await freePort()}`;
    await writeFile(file, JSON.stringify({ ...plain, address: standby.address, addresses: [off] }));
    expect((await looked())?.todo).toContain(`Add "${leader.address}"`);
    await writeFile(file, JSON.stringify({ ...plain, address: off }));
    expect((await looked())?.todo).toMatch(/^Check the network/);
  });

  test("a standby that has too much to do keeps nobody: who knows both finds the leader", async () => {
    const leader = await leading();
    const [folder, port] = [path(home, "three"), await freePort()];
    await cp(folders[0]!, folder, { recursive: true });
    const file = path(folder, "tutti.json");
    const plain = JSON.parse(await readFile(file, "utf8"));
    const own = { port, listen: { host: "127.0.0.1", port }, limits: { memoryBytes: 1 } };
    await writeFile(file, JSON.stringify({ ...plain, ...own }));
    const busy = await serveFederation({ folder });
    try {
      const { tls } = await openOwner(folder);
      const key = signingKey(newSeed(random));
      const only = connect({ address: busy.address, tls, name: "x", key });
      const asked = () => only.hello(create(HelloRequestSchema)).catch((fault: Fault) => fault.detail);
      let refusal = await asked();
      while (!("expected" in refusal && refusal.expected === "free memory")) refusal = await asked();
      expect(refusal).not.toHaveProperty("retryAfterMs");
      only.close();
      const both = connect({ address: busy.address, addresses: [leader.address], tls, name: "x", key });
      expect((await both.hello(create(HelloRequestSchema))).session).toHaveLength(16);
      both.close();
    } finally {
      await busy.close();
    }
  });

  test("the leader stops in the midst of a run: devices and owner go on with the other", {
    timeout: 120_000,
  }, async () => {
    const leader = await leading();
    const settings = prepared({ rounds: 3, update: { maxWeight: 100 } });
    const devices = await Promise.all(
      NAMES.map(async (name) =>
        Device.open({ folder: await joined(name), data: clouds(40, seededRandom(name)) }),
      ),
    );
    const owner = await openOwner(folders[1]!);
    const admin = connectService(Admin, { ...owner, patienceMs: 10_000 });
    for (const bytes of [settings.base, settings.initial]) await admin.put(parts(bytes));
    const revoked = await joined("dan");
    const nowS = Math.floor(Date.now() / 1000);
    const list = withRevoked(NO_REVOCATIONS, { name: "dan", serial: random.bytes(16), nowS });
    const revocations = signRevocations(list, owner);
    await admin.revoke(create(RevokeRequestSchema, { device: "dan", revocations }));
    const taking = devices.map((device) => device.participate());
    const plan = signPlan(settings.plan, owner);
    const { run } = await admin.startRun(create(StartRunRequestSchema, { plan }));
    while (leader.coordinator.driver(run).header.version === 0)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await leader.close();
    serving.splice(serving.indexOf(leader), 1);
    const ends = await Promise.all(taking);
    const finished = { run, outcome: "finished", reason: "" };
    expect(ends.map(({ runs }) => runs)).toEqual(NAMES.map(() => [finished]));
    const { history } = await admin.status(create(RunRequestSchema, { run }));
    expect(history.map(({ survivors, secure }) => [survivors, secure])).toEqual(
      [0, 1, 2, 3].map(() => [3, true]),
    );
    expect(serving[0]!.role()).toEqual({ kind: "leader", epoch: 2 });
    expect(devices.map((device) => device.model().release?.version)).toEqual([3, 3, 3]);
    await Promise.all(devices.map((device) => device.close()));
    admin.close();
    // Who was revoked at the one is revoked at the other, and the others hear of it there too.
    const config = await readConfig(revoked);
    const dan = connect({ ...config, key: (await readIdentity(revoked, config)).key });
    const refusal = { code: "refused", what: "device dan: revoked" };
    await expect(dan.checkIn(create(CheckInRequestSchema))).rejects.toMatchObject(refusal);
    expect((await dan.hello(create(HelloRequestSchema))).notice?.revocations).toBe(1);
    dan.close();
  });

  test("a new TLS certificate is taken up at once, or nobody who leads vouches for it", async () => {
    const leader = await leading();
    const own = folders[ports.findIndex((port) => leader.address.endsWith(`:${port}`))]!;
    const { tls, authority } = await openOwner(own);
    const [folder, port] = [path(home, "four"), await freePort()];
    await cp(own, folder, { recursive: true });
    const file = path(folder, "tutti.json");
    const plain = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...plain, port, listen: { host: "127.0.0.1", port } }));
    for (const one of [own, folder])
      await writeTls(one, await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() }), "part");
    await leader.reloadTls();
    const standby = await serveFederation({ folder });
    const key = signingKey(newSeed(random));
    const greeted = (addresses: readonly string[], patienceMs: number) => {
      // Whoever waits, fails.
      const clock = { ...systemClock(), sleep: () => Promise.reject(new Error("waited")) };
      const pins = { authority, kept: null, keep: async () => {} };
      const about = { address: standby.address, addresses, tls, name: "x", key };
      const link = connect({ ...about, pins, patienceMs, clock });
      return link.hello(create(HelloRequestSchema)).finally(() => link.close());
    };
    try {
      expect((await greeted([leader.address], 10_000)).session).toHaveLength(16);
      const off = `127.0.0.1:${await freePort()}`;
      const got = `${standby.address}: another TLS certificate than is pinned; ${off}: nothing listens there`;
      const told = `coordinators: expected one that leads, got ${got}. Only the one that leads vouches`;
      await expect(greeted([off], 0)).rejects.toThrow(told);
    } finally {
      await standby.close();
    }
  });
});

async function* parts(bytes: Uint8Array) {
  const header = { sha256: sha256(bytes), totalBytes: bytes.length };
  yield create(PutPartSchema, { part: { case: "header", value: header } });
  yield create(PutPartSchema, { part: { case: "chunk", value: bytes } });
}
