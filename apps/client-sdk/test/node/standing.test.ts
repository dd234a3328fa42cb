import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { openAuthority, openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { newTls } from "@tutti/coordinator/folder/tls";
import { writeTls } from "@tutti/coordinator/folder/tls-files";
import { createToken } from "@tutti/coordinator/folder/token";
import { serveGrpc } from "@tutti/coordinator/grpc/serve";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { base64 } from "@tutti/foundation/bytes";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { bind, issue, validityOf } from "@tutti/identity/certificate";
import { joinFileText } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { checkRenewal, grantRenewal } from "@tutti/identity/renewal";
import { NO_REVOCATIONS, signRevocations, withRevoked } from "@tutti/release/revocations";
import { signTlsCertificates } from "@tutti/release/tls";
import { Admin, RevokeRequestSchema } from "@tutti/wire/admin";
import { CertificateSchema, HelloRequestSchema } from "@tutti/wire/device";
import { create, decode, encode } from "@tutti/wire/message";
import { CheckInRequestSchema } from "@tutti/wire/round";
import { GrantRequestSchema, Register, RenewalsRequestSchema, Standing } from "@tutti/wire/standing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DeviceEvent } from "../../src/events.ts";
import { configText, readConfig, readIdentity, readShown } from "../../src/node/folder.ts";
import { connect, connectService, Device, join } from "../../src/node/index.ts";
import { openPins } from "../../src/node/pins.ts";
import { openFolderStore } from "../../src/node/store.ts";
import { defaultPolicy, policyText } from "../../src/policy.ts";
import { keptRevocations } from "../../src/revoked.ts";
import { clouds } from "../mlp.ts";

const random = platformRandom();
const nowS = () => Math.floor(Date.now() / 1000);
let home: string;
let federation: string;
let server: Server;
beforeAll(async () => {
  home = await mkdtemp(path(tmpdir(), "tutti-standing-"));
  federation = path(home, "federation");
  const where = { folder: federation, name: "test", host: "127.0.0.1", port: 1 };
  await initFederation({ ...where, random, nowMs: Date.now() });
  server = await serveFederation({ folder: federation, port: 0 });
});
afterAll(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

async function joined(name: string): Promise<string> {
  const token = await createToken({ folder: federation, name, days: 90, random, nowMs: Date.now() });
  const folder = path(home, name);
  await join({ joinFile: joinFileText({ ...token, address: server.address }), folder, random });
  return folder;
}

/** A device that enrolled so long ago that its certificate, of 90 days, ends in so many, or ended. */
async function ending(name: string, inDays: number): Promise<string> {
  const authority = await openAuthority(federation);
  const owner = await openOwner(federation);
  const [token, seed] = [signingKey(newSeed(random)), newSeed(random)];
  const key = signingKey(seed);
  const notAfterS = nowS() + inDays * 86_400;
  const serial = random.bytes(16);
  const about = { role: "device", name, notBeforeS: notAfterS - 90 * 86_400, notAfterS, serial } as const;
  const certificate = bind(issue(authority, { ...about, publicKey: token.publicKey }), token, key.publicKey);
  const bytes = encode(CertificateSchema, certificate);
  await server.coordinator.parts.store.addDevice({ name, serial, certificate: bytes });
  const folder = path(home, name);
  await mkdir(folder);
  await writeFile(path(folder, "device.key"), `${base64(seed)}\n`);
  await writeFile(path(folder, "device.cert"), bytes);
  await writeFile(path(folder, "policy.json"), policyText(defaultPolicy([], null)));
  const where = { federation: "test", name, address: server.address, addresses: [], tls: owner.tls };
  await writeFile(path(folder, "device.json"), configText({ ...where, authority: owner.authority }));
  return folder;
}

/** What somebody with the authority's key does: signs all that is asked for. */
async function signAll(): Promise<number> {
  const { address: _, ...owner } = await openOwner(federation);
  const authority = await openAuthority(federation);
  const register = connectService(Register, { ...owner, address: server.address });
  let signed = 0;
  for await (const request of register.renewals(create(RenewalsRequestSchema))) {
    const rules = { authority: authority.publicKey, nowS: nowS(), graceS: 30 * 86_400 };
    const identity = checkRenewal(request, rules);
    const about = { identity, days: request.days, nowS: nowS(), serial: random.bytes(16) };
    const grant = grantRenewal(authority, about);
    await register.grant(create(GrantRequestSchema, { device: identity.name, grant }));
    signed++;
  }
  register.close();
  return signed;
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Takes part, as far as there is something to take part in, until `done`. */
async function living(folder: string, done: (events: readonly DeviceEvent[]) => boolean | Promise<boolean>) {
  const events: DeviceEvent[] = [];
  const data = clouds(10, seededRandom(1));
  const device = await Device.open({ folder, data, events: (event) => void events.push(event) });
  const stop = new AbortController();
  const taking = device.participate({ signal: stop.signal, once: false }).catch((error: unknown) => error);
  await Promise.race([until(() => done(events)), taking]);
  stop.abort();
  const ended = await taking;
  await device.close();
  return { events, ended };
}

const kinds = (events: readonly DeviceEvent[]) => events.map(({ kind }) => kind);
const pending = async () => (await server.coordinator.registry.renewals()).length > 0;

describe("a device's certificate", () => {
  test("is renewed by itself once it is two thirds through, on the stream that is open", async () => {
    const folder = await ending("ann", 20);
    const before = await readFile(path(folder, "device.cert"));
    let signed = 0;
    const { events, ended } = await living(folder, async (heard) => {
      if (signed === 0 && (await pending())) signed = await signAll();
      return kinds(heard).includes("renewed");
    });
    expect(ended).toEqual({ runs: [] });
    expect(events.filter(({ kind }) => kind === "refused")).toEqual([]);
    const after = await readFile(path(folder, "device.cert"));
    expect(after).not.toEqual(before);
    const renewed = decode(CertificateSchema, new Uint8Array(after), 64 << 10);
    expect(validityOf(renewed).notAfterS).toBeGreaterThan(nowS() + 80 * 86_400);
    // The coordinator goes by the new one from then on, and the device after a restart.
    const kept = await server.coordinator.parts.store.device("ann");
    expect(new Uint8Array(after)).toEqual(kept?.certificate);
    const config = await readConfig(folder);
    const { certificate } = await readIdentity(folder, config);
    expect(encode(CertificateSchema, certificate)).toEqual(new Uint8Array(after));
    expect(await pending()).toBe(false);
  });

  test("that ended while the device was away is asked for anew, and then it takes part", async () => {
    const folder = await ending("bob", -3);
    const told = (heard: readonly DeviceEvent[]) => heard.filter(({ kind }) => kind === "state").length > 1;
    const { events } = await living(folder, async (heard) => told(heard) && (await pending()));
    const because = events.flatMap((event) =>
      event.kind === "state" && event.because ? [event.because] : [],
    );
    expect(because[0]).toMatchObject({ code: "refused", what: "device bob: expired" });
    expect(await signAll()).toBe(1);
    const later = await living(folder, () => server.coordinator.presence.isConnected("bob"));
    expect(later.ended).toEqual({ runs: [] });
    expect(kinds(later.events)).toContain("renewed");
  });

  test("that ended too long ago is told apart from a revoked and an unknown one", async () => {
    const late = await living(await ending("cyd", -40), () => false);
    expect(late.ended).toMatchObject({ what: "device cyd: expired" });
    const folder = await joined("dan");
    const { address: _, ...owner } = await openOwner(federation);
    const admin = connectService(Admin, { ...owner, address: server.address });
    await admin.revoke(create(RevokeRequestSchema, { device: "dan" }));
    admin.close();
    const revoked = await living(folder, () => false);
    expect(revoked.ended).toMatchObject({ what: "device dan: revoked" });
    const config = await readConfig(folder);
    const stranger = connect({ ...config, name: "nobody", key: signingKey(newSeed(random)) });
    await expect(stranger.checkIn(create(CheckInRequestSchema))).rejects.toMatchObject({
      what: "device nobody: unknown",
    });
    stranger.close();
  });
});

test("who was revoked is told the others on their streams, signed by the owner, and kept", async () => {
  const folder = await joined("eva");
  await joined("fay");
  const { address: _, ...owner } = await openOwner(federation);
  const admin = connectService(Admin, { ...owner, address: server.address });
  let sent = false;
  await living(folder, async () => {
    if (!sent && server.coordinator.presence.isConnected("eva")) {
      sent = true;
      const list = withRevoked(NO_REVOCATIONS, { name: "fay", serial: random.bytes(16), nowS: nowS() });
      const revocations = signRevocations(list, owner);
      await admin.revoke(create(RevokeRequestSchema, { device: "fay", revocations }));
    }
    return (await keptRevocations(await openFolderStore(folder))).version > 0;
  });
  const list = await keptRevocations(await openFolderStore(folder));
  expect(list.revocations.map(({ name }) => name)).toEqual(["fay"]);
  admin.close();
});

describe("another TLS certificate of the coordinator", () => {
  async function change(): Promise<void> {
    const tls = await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() });
    await writeTls(federation, tls, "part");
    await server.reloadTls();
  }

  async function linkOf(folder: string, address?: string) {
    const config = await readConfig(folder);
    const { key, authority } = await readIdentity(folder, config);
    const pins = await openPins(folder, authority);
    const to = { ...config, ...(address && { address }) };
    return connect({ ...to, key, shows: await readShown(folder), pins });
  }

  test("open streams go on, and who is on one knows the new certificate before it is shown", async () => {
    const folder = await joined("gus");
    let changed = false;
    const { events } = await living(folder, async () => {
      if (!changed && server.coordinator.presence.isConnected("gus")) {
        changed = true;
        await change();
      }
      return changed && (await openPins(folder, new Uint8Array(32))).kept?.version === 2;
    });
    expect(events.filter(({ kind }) => kind === "state")).toHaveLength(1);
    const link = await linkOf(folder);
    await expect(link.checkIn(create(CheckInRequestSchema))).resolves.toBeDefined();
    link.close();
  });

  test("who was away asks for the signed list, and goes by it", async () => {
    const folder = await joined("hal");
    await change();
    const link = await linkOf(folder);
    await expect(link.hello(create(HelloRequestSchema))).resolves.toMatchObject({
      version: expect.any(String),
    });
    link.close();
    expect((await openPins(folder, new Uint8Array(32))).kept?.version).toBe(3);
    // What the join file said is over.
    const { address, tls, name } = await readConfig(folder);
    const old = connect({ address, tls, name, key: signingKey(newSeed(random)) });
    await expect(old.hello(create(HelloRequestSchema))).rejects.toMatchObject({ code: "unavailable" });
    old.close();
  });

  test("an attacker's certificate is refused, whatever list it signs or repeats", async () => {
    const folder = await joined("ida");
    const known = await linkOf(folder);
    await known.hello(create(HelloRequestSchema));
    known.close();
    const tls = await newTls({ name: "evil", host: "127.0.0.1", nowMs: Date.now() });
    const evil = signingKey(newSeed(random));
    const about = { role: "coordinator", name: "coordinator", publicKey: evil.publicKey } as const;
    const within = { notBeforeS: nowS() - 10, notAfterS: nowS() + 1000, serial: random.bytes(16) };
    const certificate = issue(evil, { ...about, ...within });
    const own = { version: 99, certificates: [new Uint8Array([1])], nowS: nowS() };
    const lists = [
      signTlsCertificates(own, { key: evil, certificate }),
      // The coordinator's own, which this device has.
      server.coordinator.notices.tlsCertificates(),
    ];
    for (const list of lists) {
      const refuse = () => Promise.reject(new Error("not asked"));
      const rogue = await serveGrpc({
        host: "127.0.0.1",
        port: 0,
        tls,
        services: [
          {
            service: Standing,
            handlers: { renew: refuse, revocations: refuse, tlsCertificates: async () => list },
          },
        ],
        authenticate: async () => null,
        onBug: () => {},
      });
      const link = await linkOf(folder, `127.0.0.1:${rogue.port}`);
      await expect(link.hello(create(HelloRequestSchema))).rejects.toMatchObject({ code: "unavailable" });
      link.close();
      await rogue.close();
    }
    expect((await openPins(folder, new Uint8Array(32))).kept?.version ?? 0).toBeLessThan(99);
  });
});
