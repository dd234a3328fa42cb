import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, join as joinFederation } from "@tutti/client-sdk/node";
import { readConfig, readIdentity } from "@tutti/client-sdk/node/folder";
import { readKnown, readRevoked, renewRoles } from "@tutti/coordinator/folder/authority";
import { openAuthority } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { PATHS, readCertificate } from "@tutti/coordinator/folder/layout";
import { answerRenewals } from "@tutti/coordinator/folder/renewals";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { platformRandom } from "@tutti/foundation/random";
import { bind, issue, validityOf, verifyCertificate } from "@tutti/identity/certificate";
import { parseJoinFile } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { requestRenewal } from "@tutti/identity/renewal";
import { NO_REVOCATIONS, withRevoked } from "@tutti/release/revocations";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { freePort } from "../../../claims/support/free-port.ts";
import { authorityCommand } from "../src/commands/authority/authority.ts";
import { devicesCommand } from "../src/commands/devices.ts";
import { revokeCommand } from "../src/commands/revoke.ts";
import { tlsCommand } from "../src/commands/tls/tls.ts";
import { tokenCommand } from "../src/commands/token.ts";

const random = platformRandom();
let home: string;
let folder: string;
let server: Server;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-trust-"));
  folder = join(home, "federation");
  const about = { folder, name: "test", host: "127.0.0.1", port: await freePort(), random };
  await initFederation({ ...about, nowMs: Date.now() });
  server = await serveFederation({ folder });
});
afterAll(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

type Listed = { name: string; revoked: boolean };
type Said = { readonly [field: string]: unknown; readonly devices: Listed[] };

/** What a command says last, as JSON; or the code of its failure. */
async function tutti(...line: string[]): Promise<Said> {
  const said: string[] = [];
  const spies = [
    vi.spyOn(process.stdout, "write").mockImplementation((text) => said.push(String(text)) > 0),
    vi.spyOn(process.stderr, "write").mockImplementation(() => true),
  ];
  const root = new Command("tutti").option("--json").exitOverride();
  const commands = [authorityCommand(), devicesCommand(), revokeCommand(), tlsCommand(), tokenCommand()];
  for (const command of commands) {
    root.addCommand(command.copyInheritedSettings(root));
    for (const child of command.commands) child.copyInheritedSettings(command);
  }
  try {
    await root.parseAsync(["--json", ...line], { from: "user" });
    return JSON.parse(said.at(-1)!);
  } catch (error) {
    return { failed: (error as { code: string }).code, devices: [] };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

const at = (...path: string[]) => join(home, ...path);

test("tokens for many devices of a site, listed, limited, revoked by a signed list", async () => {
  const before = process.cwd();
  process.chdir(home);
  try {
    const site = ["--site", "north", "--site-limit", "2", "--label", "ward=7"];
    const made = await tutti("token", "north", "--count", "3", ...site, "--federation", folder);
    expect(made.files).toEqual(["north-1.join.json", "north-2.join.json", "north-3.join.json"]);
    const twice = await tutti("token", "north", "--count", "3", ...site, "--federation", folder);
    expect(twice.failed).toBe("conflict");
  } finally {
    process.chdir(before);
  }
  const join = async (name: string) =>
    joinFederation({ joinFile: await readFile(at(`${name}.join.json`), "utf8"), folder: at(name), random });
  await join("north-1");
  await join("north-2");
  await expect(join("north-3")).rejects.toMatchObject({ code: "refused", what: "device north-3" });
  const { devices } = await tutti("devices", "--federation", folder);
  expect(devices).toMatchObject([
    { name: "north-1", site: "north", labels: { ward: "7" }, revoked: false, connected: false },
    { name: "north-2", site: "north", revoked: false, lastSeen: null, renewalPending: false },
  ]);
  expect(await tutti("revoke", "nobody", "--federation", folder)).toMatchObject({ failed: "not-found" });
  expect(await tutti("revoke", "north-1", "--federation", folder)).toMatchObject({ list: 1 });
  expect(await tutti("revoke", "north-2", "--federation", folder)).toMatchObject({ list: 2 });
  expect((await readRevoked(folder)).revocations.map(({ name }) => name)).toEqual(["north-1", "north-2"]);
  expect(server.coordinator.notices.notice.revocations).toBe(2);
  const after = await tutti("devices", "--federation", folder);
  expect(after.devices.map(({ revoked }) => revoked)).toEqual([true, true]);
  // Room again, for one who was refused before.
  await join("north-3");
});

test("tokens are all written or none, for their user's eyes alone", async () => {
  const before = process.cwd();
  process.chdir(home);
  try {
    const line = ["token", "ward", "--federation", folder];
    await writeFile("ward-2.join.json", "another's");
    expect((await tutti(...line, "--count", "3")).failed).toBe("conflict");
    expect((await readdir(home)).filter((name) => name.includes("ward-"))).toEqual(["ward-2.join.json"]);
    expect(await tutti(...line)).toEqual({ file: "ward.join.json", name: "ward" });
    expect((await stat("ward.join.json")).mode & 0o777).toBe(0o600);
    // A disk that says no is no mistake of the line.
    expect((await tutti(...line, "--out", "ward.join.json/inner")).failed).toBe("storage");
  } finally {
    process.chdir(before);
  }
});

test("renewals are signed at the authority's machine, and what was signed is remembered there", async () => {
  const config = await readConfig(at("north-3"));
  const { key, certificate } = await readIdentity(at("north-3"), config);
  const link = connect({ ...config, key });
  const nowS = Math.floor(Date.now() / 1000);
  await link.standing!.renew(requestRenewal(key, { certificate, days: 500, nowS }));
  const short = await tutti("authority", "sign", "--federation", folder, "--max-days", "100");
  // The present one lasts for 365 days: nothing would be gained.
  expect(short).toMatchObject({ granted: [], refused: [{ device: "north-3" }] });
  const line = ["authority", "sign", "--federation", folder, "--max-days", "400"];
  expect(await tutti(...line)).toEqual({ granted: ["north-3"], refused: [], renewed: [] });
  expect(await tutti(...line)).toEqual({ granted: [], refused: [], renewed: [] });
  const [known] = await readKnown(folder);
  expect(known).toMatchObject({ name: "north-3", site: "north" });
  const { grant } = await link.standing!.renew(requestRenewal(key, { certificate, days: 500, nowS }));
  const days = (validityOf(grant!).notAfterS - Date.now() / 1000) / 86_400;
  expect(Math.round(days)).toBe(400);
  link.close();
});

describe("what the authority refuses to sign", () => {
  const token = signingKey(newSeed(random));
  const START_S = 1_800_000_000;
  const of = async (name: string, change: object = {}) => {
    const authority = await openAuthority(folder);
    const key = signingKey(newSeed(random));
    const about = { role: "device", name, publicKey: token.publicKey, notBeforeS: START_S } as const;
    const serial = random.bytes(16);
    const grant = issue(authority, { ...about, serial, notAfterS: START_S + 1000, ...change });
    const certificate = bind(grant, token, key.publicKey);
    return { serial, request: requestRenewal(key, { certificate, days: 10, nowS: START_S + 900 }) };
  };
  const rules = async (change: object = {}) => ({
    authority: await openAuthority(folder),
    maxDays: 365,
    graceDays: 30,
    revocations: NO_REVOCATIONS,
    known: [],
    random,
    nowMs: (START_S + 900) * 1000,
    ...change,
  });

  test("a revoked device, whatever the coordinator hides; another key; a site that is full", async () => {
    const ann = await of("ann");
    const { granted, known } = answerRenewals([ann.request], await rules());
    expect(granted.map(({ device, days }) => [device, days])).toEqual([["ann", 10]]);
    const revocations = withRevoked(NO_REVOCATIONS, { name: "ann", serial: ann.serial, nowS: START_S });
    const why = async (requests: Parameters<typeof answerRenewals>[0], change: object) =>
      answerRenewals(requests, await rules(change)).refused.map(({ because }) => because.message);
    expect(await why([ann.request], { revocations })).toEqual([expect.stringContaining("a revoked one")]);
    const twice = await of("ann");
    expect(await why([twice.request], { known })).toEqual([
      expect.stringContaining("as before, got another"),
    ]);
    const site = { site: "north", siteLimit: 1 };
    const both = [(await of("b", site)).request, (await of("c", site)).request];
    expect(await why(both, {})).toEqual([expect.stringContaining("at most 1 devices of site north")]);
    const late = { nowMs: (START_S + 1001 + 31 * 86_400) * 1000 };
    expect(await why([ann.request], late)).toEqual([expect.stringContaining("expired")]);
  });
});

test("the roles' own certificates are renewed near their end, for the same keys", async () => {
  const folder = at("other");
  await initFederation({ folder, name: "other", host: "localhost", port: 1, random, nowMs: Date.now() });
  const authority = await openAuthority(folder);
  const before = await readCertificate(folder, PATHS.coordinatorCertificate);
  expect(await renewRoles(folder, { authority, random, nowMs: Date.now() })).toEqual([]);
  const nowMs = Date.now() + 600 * 86_400_000;
  const nowS = Math.floor(nowMs / 1000);
  expect(await renewRoles(folder, { authority, random, nowMs })).toEqual(["coordinator", "owner"]);
  const after = await readCertificate(folder, PATHS.coordinatorCertificate);
  const trust = { authority: authority.publicKey, role: "coordinator", nowS } as const;
  expect(verifyCertificate(after, trust).publicKey).toEqual(verifyCertificate(before, trust).publicKey);
  expect(validityOf(after).notAfterS).toBeGreaterThan(validityOf(before).notAfterS);
  expect((await readdir(join(folder, "coordinator"))).filter((name) => name.endsWith(".part"))).toEqual([]);
});

test("a new TLS certificate is taken up by a running coordinator; older join files still join", async () => {
  const out = at("late.join.json");
  await tutti("token", "late", "--out", out, "--federation", folder);
  const version = () => server.coordinator.notices.notice.tlsCertificates;
  expect(version()).toBe(1);
  await tutti("tls", "renew", folder);
  await server.reloadTls();
  expect(version()).toBe(2);
  const joinFile = await readFile(out, "utf8");
  expect(parseJoinFile(joinFile).tls.certificate).not.toBe(
    await readFile(join(folder, PATHS.tlsCertificate), "utf8"),
  );
  await joinFederation({ joinFile, folder: at("late"), random });
  expect(await readdir(at("late"))).toContain("tls.json");
  // The owner's copy is the coordinator's own file here.
  const { devices } = await tutti("devices", "--federation", folder);
  expect(devices.map(({ name }) => name)).toContain("late");
});
