import { X509Certificate } from "node:crypto";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hex } from "@tutti/foundation/bytes";
import { platformRandom } from "@tutti/foundation/random";
import { bind, verifyCertificate } from "@tutti/identity/certificate";
import { joinFileText, parseJoinFile } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseConfig } from "../../src/folder/config.ts";
import { openAuthority, openFederation, openOwner } from "../../src/folder/federation.ts";
import { initFederation } from "../../src/folder/init.ts";
import { newTls } from "../../src/folder/tls.ts";
import { createToken } from "../../src/folder/token.ts";
import { openDatabase } from "../../src/store/database.ts";
import { openReader } from "../../src/store/reader.ts";

const random = platformRandom();
const nowMs = Date.UTC(2026, 0, 10);
const nowS = nowMs / 1000;
const DAY_S = 86_400;

let parent: string;
let folder: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "tutti-folder-"));
  folder = join(parent, "federation");
});
afterEach(() => rm(parent, { recursive: true, force: true }));

const init = (change: { host?: string; port?: number; name?: string } = {}) =>
  initFederation({ folder, name: "hearts", host: "fl.example.org", port: 7443, random, nowMs, ...change });

describe("initFederation", () => {
  test("the server and the owner open what it made; key files are the user's alone", async () => {
    await init();
    const server = await openFederation(folder, nowMs);
    const owner = await openOwner(folder, nowMs);
    expect(server.config).toMatchObject({
      version: 1,
      name: "hearts",
      host: "fl.example.org",
      port: 7443,
      listen: { host: "0.0.0.0", port: 7443 },
    });
    expect(server.owners).toEqual([{ name: "owner", publicKey: owner.key.publicKey }]);
    expect(owner).toMatchObject({
      name: "owner",
      address: "fl.example.org:7443",
      tls: server.tls.certificate,
    });
    for (const file of [
      "authority/authority.key",
      "owner/owner.key",
      "coordinator/coordinator.key",
      "coordinator/tls.key",
    ])
      expect((await stat(join(folder, file))).mode & 0o777).toBe(0o600);
    expect(await readdir(parent)).toEqual(["federation"]);
  });

  test("the server needs neither the authority's key nor the owner's", async () => {
    await init();
    await rm(join(folder, "authority/authority.key"));
    await rm(join(folder, "owner/owner.key"));
    await openFederation(folder, nowMs);
  });

  test("each key is its own", async () => {
    await init();
    const keys = [await openAuthority(folder), (await openOwner(folder, nowMs)).key];
    keys.push((await openFederation(folder, nowMs)).coordinator.key);
    expect(new Set(keys.map(({ publicKey }) => hex(publicKey))).size).toBe(3);
  });

  test("TLS: P-256, 825 days, names of this machine and the host", async () => {
    await init();
    const { tls } = await openFederation(folder, nowMs);
    const certificate = new X509Certificate(tls.certificate);
    expect(certificate.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: "prime256v1" });
    expect(Date.parse(certificate.validTo) - nowMs).toBe(825 * DAY_S * 1000);
    for (const host of ["localhost", "fl.example.org"]) expect(certificate.checkHost(host)).toBe(host);
    for (const ip of ["127.0.0.1", "::1"]) expect(certificate.checkIP(ip)).toBeTruthy();
    expect(certificate.checkHost("other.example.org")).toBeUndefined();
  });

  test("who dials only this machine listens only on it", async () => {
    await init({ host: "localhost" });
    expect((await openFederation(folder, nowMs)).config.listen.host).toBe("localhost");
  });

  test("what exists is left alone", async () => {
    await mkdir(folder);
    await writeFile(join(folder, "mine"), "x");
    await expect(init()).rejects.toMatchObject({ code: "conflict" });
    expect(await readdir(folder)).toEqual(["mine"]);
  });

  test("a refusal leaves nothing behind", async () => {
    for (const bad of [{ name: "a b" }, { host: "no host" }, { port: 70_000 }])
      await expect(init(bad)).rejects.toMatchObject({ code: "bad-input" });
    expect(await readdir(parent)).toEqual([]);
  });
});

describe("opening fails closed, by name", () => {
  test("no folder", async () => {
    await expect(openFederation(folder, nowMs)).rejects.toMatchObject({ code: "not-found" });
  });

  test("a certificate that ran out", async () => {
    await init();
    await expect(openFederation(folder, nowMs + 826 * DAY_S * 1000)).rejects.toThrow(/expired/);
  });

  test("a key that is not the certificate's", async () => {
    await init();
    for (const role of ["owner", "coordinator"])
      await writeFile(join(folder, role, `${role}.key`), hex(newSeed(random)));
    await expect(openFederation(folder, nowMs)).rejects.toThrow(/the key of coordinator.key/);
    await expect(openOwner(folder, nowMs)).rejects.toThrow(/the key of owner.key/);
  });

  test("an authority key that is not authority.pub's", async () => {
    await init();
    await writeFile(join(folder, "authority/authority.key"), hex(newSeed(random)));
    await expect(createToken({ folder, name: "ward-3", days: 1, random, nowMs })).rejects.toThrow(
      /authority.pub/,
    );
  });

  test("a damaged key file is refused and not quoted", async () => {
    await init();
    await writeFile(join(folder, "owner/owner.key"), "deadbeef");
    const error: Error = await openOwner(folder, nowMs).then(
      () => new Error("was taken"),
      (fault: Error) => fault,
    );
    expect(error.message).toMatch(/owner.key/);
    expect(error.message).not.toContain("deadbeef");
  });

  test.each([
    ["unknown field", (text: string) => text.replace('"name"', '"nmae": 1, "name"')],
    ["missing field", (text: string) => text.replace(/"host": "fl[^,]*,/, "")],
    ["another version", (text: string) => text.replace('"version": 1', '"version": 2')],
    ["a port as text", (text: string) => text.replace("7443", '"7443"')],
    ["no JSON", (text: string) => text.slice(1)],
  ])("tutti.json with %s", async (_name, change) => {
    await init();
    const text = await readFile(join(folder, "tutti.json"), "utf8");
    expect(parseConfig(text).name).toBe("hearts");
    const broken = change(text);
    expect(broken).not.toBe(text);
    expect(() => parseConfig(broken)).toThrow(/tutti.json/);
  });
});

describe("createToken", () => {
  test("it names further coordinators, and the certificates of those that have their own", async () => {
    await init();
    const file = join(folder, "tutti.json");
    const plain = JSON.parse(await readFile(file, "utf8"));
    const addresses = ["two.example.org:7443"];
    await writeFile(file, JSON.stringify({ ...plain, addresses }));
    const peer = await newTls({ name: "hearts", host: "two.example.org", nowMs });
    const own = await readFile(join(folder, "coordinator", "tls.pem"), "utf8");
    const peers = join(folder, "coordinator", "peers.pem");
    await writeFile(peers, `${own}\n${peer.certificate}`);
    const token = await createToken({ folder, name: "ward-9", days: 1, random, nowMs });
    expect(token).toMatchObject({ addresses, tls: { certificate: own } });
    expect(token.tls.others?.map((one) => new X509Certificate(one).fingerprint256)).toEqual([
      new X509Certificate(peer.certificate).fingerprint256,
    ]);
    // A device finds what it pinned by its subject.
    const [one, other] = [own, peer.certificate].map((pem) => new X509Certificate(pem).subject);
    expect(one).not.toBe(other);
    await writeFile(peers, `${peer.certificate}\n${peer.certificate}`);
    const twice = createToken({ folder, name: "ward-9", days: 1, random, nowMs });
    await expect(twice).rejects.toMatchObject({ code: "bad-input", detail: { got: "a subject twice" } });
    await writeFile(peers, "not one");
    const odd = createToken({ folder, name: "ward-9", days: 1, random, nowMs });
    await expect(odd).rejects.toMatchObject({ code: "bad-input" });
  });

  test("a device that binds its own key to it is known to the federation; nothing was stored", async () => {
    await init();
    const before = await readdir(folder, { recursive: true });
    const made = await createToken({
      folder,
      name: "ward-3",
      labels: { site: "A" },
      days: 30,
      random,
      nowMs,
    });
    expect(await readdir(folder, { recursive: true })).toEqual(before);
    const join = parseJoinFile(joinFileText(made));
    const { authority, owners, tls } = await openFederation(folder, nowMs);
    expect(join).toMatchObject({ federation: "hearts", address: "fl.example.org:7443", authority, owners });
    expect(join.tls.certificate).toBe(tls.certificate);
    const device = signingKey(newSeed(random));
    const certificate = bind(join.token.grant, signingKey(join.token.secret!), device.publicKey);
    const identity = verifyCertificate(certificate, { authority, role: "device", nowS });
    expect(identity).toMatchObject({
      name: "ward-3",
      labels: { site: "A" },
      publicKey: device.publicKey,
      notAfterS: nowS + 30 * DAY_S,
    });
  });

  test("two tokens share neither secret nor serial", async () => {
    await init();
    const [a, b] = await Promise.all(
      [1, 2].map(() => createToken({ folder, name: "w", days: 1, random, nowMs })),
    );
    expect(hex(a!.token.secret!)).not.toBe(hex(b!.token.secret!));
    expect(hex(a!.token.grant.body)).not.toBe(hex(b!.token.grant.body));
  });

  test("needs no owner key; refuses odd names and lives", async () => {
    await init();
    await rm(join(folder, "owner/owner.key"));
    await createToken({ folder, name: "ward-3", days: 1, random, nowMs });
    await expect(createToken({ folder, name: "a/b", days: 1, random, nowMs })).rejects.toThrow(/name/);
    for (const days of [0, 1.5, 4000, Number.NaN])
      await expect(createToken({ folder, name: "x", days, random, nowMs })).rejects.toThrow(/days/);
  });
});

describe("a file that is missing", () => {
  test.each([
    ["tutti.json", /Make a federation/],
    ["authority/authority.pub", /public key.*copy it/],
    ["coordinator/coordinator.key", /coordinator's key.*copy it/],
    ["coordinator/tls.key", /tutti tls renew/],
    ["owner/owner.cert", /owner's certificate.*copy it/],
  ])("%s: what it is for, and where it comes from", async (path, says) => {
    await init();
    await rm(join(folder, path));
    const said = await openFederation(folder, nowMs).catch((fault: Error) => fault.message);
    expect(said).toMatch(says);
    expect(`${said}`.includes("tutti init")).toBe(path === "tutti.json");
  });

  test("keys that are not on every machine", async () => {
    await init();
    await rm(join(folder, "owner/owner.key"));
    await expect(openOwner(folder, nowMs)).rejects.toThrow(/in no backup.*run this where it is/);
    await rm(join(folder, "authority/authority.key"));
    await expect(openAuthority(folder)).rejects.toThrow(/kept offline/);
    const store = { engine: "postgres", urlFile: "store-url", poolSize: 1 } as const;
    await expect(openDatabase(folder, { store })).rejects.toThrow(/store-url.*store\.urlFile.*postgres:/);
    await expect(openReader(folder, { store })).rejects.toThrow(/store-url.*store\.urlFile.*postgres:/);
  });
});

test("docs/operating.md: another coordinator opens what it says to copy", async () => {
  await init();
  const guide = await readFile(new URL("../../../../docs/operating.md", import.meta.url), "utf8");
  const [, named = ""] = /tar -c (.+) \|$/m.exec(guide) ?? [];
  const files = named.replace(/(\w+)\/\{(.+)\}/, (_, part: string, list: string) =>
    list
      .split(",")
      .map((name) => `${part}/${name}`)
      .join(" "),
  );
  const other = join(parent, "other");
  for (const file of files.split(" ")) await cp(join(folder, file), join(other, file));
  await expect(openFederation(other, nowMs)).resolves.toMatchObject({ config: { name: "hearts" } });
  expect(files).not.toMatch(/authority\.key|owner\.key/);
});

test("of the two TLS files the one that is no PEM is named, with what to do", async () => {
  await init();
  for (const path of ["coordinator/tls.key", "coordinator/tls.pem"]) {
    const before = await readFile(join(folder, path));
    await writeFile(join(folder, path), "garbage");
    await expect(openFederation(folder, nowMs)).rejects.toThrow(
      `${join(folder, path)}: expected a PEM file, got other text. Make both anew with \`tutti tls renew\``,
    );
    await writeFile(join(folder, path), before);
  }
});
