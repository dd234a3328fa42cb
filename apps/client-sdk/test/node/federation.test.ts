import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { fromHex } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { float32 } from "@tutti/graph/ir";
import { joinFileText } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { signPlan } from "@tutti/release/plan";
import { Admin, PutPartSchema, RunRequestSchema, StartRunRequestSchema } from "@tutti/wire/admin";
import { HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { CheckInRequestSchema } from "@tutti/wire/round";
import { CHUNK_BYTES } from "@tutti/wire/rpc";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DeviceEvent } from "../../src/events.ts";
import { connect, connectService, Device, join } from "../../src/node/index.ts";
import { clouds, prepared } from "../mlp.ts";

const random = platformRandom();
const NAMES = ["ann", "bob", "eve"];
let home: string;
let server: Server;
beforeAll(async () => {
  home = await mkdtemp(path(tmpdir(), "tutti-sdk-"));
  const folder = path(home, "federation");
  await initFederation({ folder, name: "test", host: "127.0.0.1", port: 1, random, nowMs: Date.now() });
  server = await serveFederation({ folder, port: 0 });
});
afterAll(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

async function tokenFor(name: string): Promise<string> {
  const token = await createToken({
    folder: path(home, "federation"),
    name,
    days: 1,
    random,
    nowMs: Date.now(),
  });
  return joinFileText({ ...token, address: server.address });
}

async function* putParts(bytes: Uint8Array) {
  const header = { sha256: sha256(bytes), totalBytes: bytes.length };
  yield create(PutPartSchema, { part: { case: "header", value: header } });
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    yield create(PutPartSchema, { part: { case: "chunk", value: bytes.subarray(at, at + CHUNK_BYTES) } });
  }
}

describe("joining", () => {
  test("writes a whole folder, the key for its owner alone; the same file again is refused", async () => {
    const joinFile = await tokenFor("first");
    const folder = path(home, "first");
    await join({ joinFile, folder, random });
    expect((await readdir(folder)).sort()).toEqual([
      "device.cert",
      "device.json",
      "device.key",
      "policy.json",
    ]);
    expect((await stat(path(folder, "device.key"))).mode & 0o777).toBe(0o600);
    await expect(join({ joinFile, folder, random })).rejects.toThrow(/no device yet/);
    const second = join({ joinFile, folder: path(home, "second"), random });
    await expect(second).rejects.toMatchObject({ code: "refused", what: "joining as first" });
    expect(await readdir(path(home, "second"))).toEqual([]);
  });

  test("cut short after it enrolled, it is finished with the same key", async () => {
    const joinFile = await tokenFor("cut");
    const folder = path(home, "cut");
    let certificate: unknown;
    const lost = {
      enroll: async (request: { certificate?: unknown }) => {
        certificate = request.certificate;
        throw new Error("killed");
      },
    };
    await expect(join({ joinFile, folder, random, link: lost as never })).rejects.toThrow("killed");
    const seen: unknown[] = [];
    const kept = {
      enroll: async (request: { certificate?: unknown }) => {
        seen.push(request.certificate);
        return {};
      },
    };
    await join({ joinFile, folder, random, link: kept as never });
    expect(seen).toEqual([certificate]);
  });

  test("a policy that is missing or misspelt opens nothing", async () => {
    const folder = path(home, "first");
    const policy = await readFile(path(folder, "policy.json"), "utf8");
    await writeFile(path(folder, "policy.json"), policy.replace("requireSecure", "requiresSecure"));
    await expect(Device.open({ folder, data: clouds(10, seededRandom(1)) })).rejects.toThrow(/policy.json/);
    await rm(path(folder, "policy.json"));
    await expect(Device.open({ folder, data: clouds(10, seededRandom(1)) })).rejects.toMatchObject({
      code: "refused",
    });
  });
});

describe("the link", () => {
  test("another certificate than the pinned one is not spoken to", async () => {
    const other = path(home, "other");
    await initFederation({
      folder: other,
      name: "other",
      host: "127.0.0.1",
      port: 1,
      random,
      nowMs: Date.now(),
    });
    const { tls } = await openOwner(other);
    const link = connect({ address: server.address, tls, name: "x", key: signingKey(newSeed(random)) });
    await expect(link.hello(create(HelloRequestSchema))).rejects.toMatchObject({ code: "unavailable" });
    link.close();
  });

  test("a name without its key is refused, and the Fault says why", async () => {
    const { address, tls } = {
      address: server.address,
      tls: (await openOwner(path(home, "federation"))).tls,
    };
    const link = connect({ address, tls, name: "first", key: signingKey(newSeed(random)) });
    await expect(link.checkIn(create(CheckInRequestSchema))).rejects.toMatchObject({
      code: "refused",
      what: "request by first",
    });
    link.close();
  });
});

test("three devices over TLS: join, train, sum, release, merge, answer", { timeout: 60_000 }, async () => {
  const settings = prepared({
    rounds: 2,
    update: { maxWeight: 100 },
    train: { optimiser: { name: "adamw", learningRate: 0.02 }, steps: 10, batchSize: 8 },
  });
  const federationFolder = path(home, "federation");
  const owner = await openOwner(federationFolder);
  const events: DeviceEvent[] = [];
  const devices = await Promise.all(
    NAMES.map(async (name) => {
      const folder = path(home, name);
      await join({ joinFile: await tokenFor(name), folder, random });
      return await Device.open({
        folder,
        data: clouds(40, seededRandom(name)),
        events: (event) => events.push(event),
      });
    }),
  );
  const admin = connectService(Admin, {
    address: server.address,
    tls: owner.tls,
    name: owner.name,
    key: owner.key,
  });
  await admin.put(putParts(settings.base));
  await admin.put(putParts(settings.initial));
  const taking = devices.map((device) => device.participate());
  const { run } = await admin.startRun(
    create(StartRunRequestSchema, { plan: signPlan(settings.plan, owner) }),
  );
  const ends = await Promise.all(taking);
  expect(ends.map(({ runs }) => runs)).toEqual(NAMES.map(() => [{ run, outcome: "finished", reason: "" }]));
  const { history } = await admin.status(create(RunRequestSchema, { run }));
  expect(history.map(({ survivors, secure }) => [survivors, secure])).toEqual([
    [3, true],
    [3, true],
    [3, true],
  ]);
  expect(history[2]!.loss).toBeLessThan(history[0]!.loss);
  const answer = await devices[0]!
    .model()
    .run(new Map([["x", float32([1, 4], Float32Array.of(2, 0, 0, 0))]]));
  expect(answer.get("y")!.shape).toEqual([1, 3]);
  expect(devices.map((device) => device.model().release?.version)).toEqual([2, 2, 2]);
  expect(events.filter(({ kind }) => kind === "refused")).toEqual([]);
  expect(fromHex(devices[0]!.model().release!.digest)).toHaveLength(32);

  // Offline, after a restart, the same release answers.
  await Promise.all(devices.map((device) => device.close()));
  const again = await Device.open({ folder: path(home, "ann"), data: clouds(40, seededRandom("ann")) });
  expect(again.model().release?.version).toBe(2);
  await again.rollback();
  expect(again.model().release?.version).toBe(1);
  await again.close();
  admin.close();
});
