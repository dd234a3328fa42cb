import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { openAuthority } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { newTls } from "@tutti/coordinator/folder/tls";
import { writeTls } from "@tutti/coordinator/folder/tls-files";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { platformRandom } from "@tutti/foundation/random";
import { bind, issue } from "@tutti/identity/certificate";
import { joinFileText } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { CertificateSchema, HelloRequestSchema } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { examineDevice } from "../../src/node/doctor.ts";
import { readConfig, readIdentity } from "../../src/node/folder.ts";
import { connect, join } from "../../src/node/index.ts";
import { openPins } from "../../src/node/pins.ts";

/** What doctor says of a site, against a coordinator that runs: the same as the site itself would meet. */

const random = platformRandom();
let home: string;
let servers: readonly [Server, Server];
beforeAll(async () => {
  home = await mkdtemp(path(tmpdir(), "tutti-doctor-"));
  servers = [await served("one"), await served("other")];
});
afterAll(async () => {
  for (const server of servers) await server.close();
  await rm(home, { recursive: true, force: true });
});

async function served(name: string): Promise<Server> {
  const where = { folder: path(home, name), name: "test", host: "127.0.0.1", port: 1 };
  await initFederation({ ...where, random, nowMs: Date.now() });
  return await serveFederation({ folder: where.folder, port: 0 });
}

async function joined(name: string): Promise<string> {
  const token = await createToken({ folder: path(home, "one"), name, days: 90, random, nowMs: Date.now() });
  const folder = path(home, name);
  const at = { ...token, address: servers[0].address };
  await join({ joinFile: joinFileText(at), folder, random });
  return folder;
}

async function looked(folder: string) {
  const findings = await examineDevice(folder);
  return Object.fromEntries(findings.map(({ what, state, says }) => [what, `${state}: ${says}`]));
}

describe("another TLS certificate of the coordinator", () => {
  async function renewed(): Promise<void> {
    const tls = await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() });
    await writeTls(path(home, "one"), tls, "part");
    await servers[0].reloadTls();
  }

  test("is the site's where it vouches for it; the folder stays as it is", async () => {
    const folder = await joined("ann");
    await renewed();
    const before = await readdir(folder);
    expect(await looked(folder)).toMatchObject({
      coordinator: expect.stringMatching(/^ok/),
      membership: expect.stringMatching(/^ok/),
    });
    expect(await readdir(folder)).toEqual(before);
  });

  test("is known where the site has taken it up", async () => {
    const folder = await joined("bob");
    await renewed();
    const config = await readConfig(folder);
    const { key, authority } = await readIdentity(folder, config);
    const link = connect({ ...config, key, pins: await openPins(folder, authority) });
    await link.hello(create(HelloRequestSchema)).finally(() => link.close());
    expect(await readdir(folder)).toContain("tls.json");
    expect(await looked(folder)).toMatchObject({ coordinator: expect.stringMatching(/^ok/) });
  });

  test("of another federation is a failure", async () => {
    const folder = await joined("cat");
    const file = path(folder, "device.json");
    const config = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...config, address: servers[1].address }));
    expect(await looked(folder)).toMatchObject({
      coordinator: expect.stringMatching(/^fail: .*the certificate that is pinned/),
    });
  });
});

describe("membership", () => {
  test("of a site that was revoked", async () => {
    const folder = await joined("dan");
    const { coordinator } = servers[0];
    const { store } = coordinator.parts;
    const before = (await store.auditHead()).count;
    expect(await looked(folder)).toMatchObject({ membership: expect.stringMatching(/^ok/) });
    expect((await store.auditHead()).count).toBe(before);
    await coordinator.revoke("dan", undefined, "owner");
    expect(await looked(folder)).toMatchObject({ membership: expect.stringMatching(/^fail: revoked/) });
  });

  test("of a site whose certificate ended", async () => {
    const folder = await joined("eve");
    const authority = await openAuthority(path(home, "one"));
    const { key } = await readIdentity(folder, await readConfig(folder));
    const token = signingKey(newSeed(random));
    const nowS = Math.floor(Date.now() / 1000);
    const [notBeforeS, notAfterS] = [nowS - 90 * 86_400, nowS - 60];
    const serial = random.bytes(16);
    const about = { role: "device", name: "eva", notBeforeS, notAfterS, serial } as const;
    const granted = issue(authority, { ...about, publicKey: token.publicKey });
    const certificate = encode(CertificateSchema, bind(granted, token, key.publicKey));
    await servers[0].coordinator.parts.store.addDevice({ name: "eva", serial, certificate });
    await writeFile(path(folder, "device.cert"), certificate);
    const file = path(folder, "device.json");
    await writeFile(file, (await readFile(file, "utf8")).replace('"eve"', '"eva"'));
    expect(await looked(folder)).toMatchObject({
      certificate: expect.stringMatching(/^fail/),
      membership: expect.stringMatching(/^fail: expired/),
    });
  });
});
