import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { equalBytes, fromBase64 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { issue } from "@tutti/identity/certificate";
import { type JoinFile, joinFileText, parseJoinFile } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { type Certificate, CertificateSchema, EnrollReplySchema } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { join, spendJoinFile } from "../../src/node/join.ts";

/** Renames that still happen before the process "dies". */
const life = vi.hoisted(() => ({ renames: Number.POSITIVE_INFINITY }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const rename = async (from: string, to: string) => {
    await real.rename(from, to);
    if (--life.renames === 0) throw new Error("killed");
  };
  return { ...real, rename };
});

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path(tmpdir(), "tutti-join-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

const random = platformRandom();
const authority = signingKey(newSeed(random));

function joinFileOf(name: string): JoinFile {
  const secret = newSeed(random);
  const nowS = Math.floor(Date.now() / 1000);
  const grant = issue(authority, {
    role: "device",
    name,
    publicKey: signingKey(secret).publicKey,
    notBeforeS: nowS - 100,
    notAfterS: nowS + 1000,
    serial: random.bytes(16),
  });
  return {
    version: 1,
    federation: "test",
    address: "127.0.0.1:1",
    tls: { certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" },
    authority: authority.publicKey,
    token: { grant, secret },
    owners: [],
  };
}

/** A coordinator's one rule of a token: the first key bound to it, and no second one. */
function enrolment() {
  let bound: Uint8Array | null = null;
  return {
    enroll: async ({ certificate }: { certificate?: Certificate }) => {
      const bytes = encode(CertificateSchema, certificate!);
      if (bound && !equalBytes(bound, bytes)) throw new Fault("conflict", "token", { got: "another key" });
      bound = bytes;
      return create(EnrollReplySchema);
    },
    key: () => bound,
  };
}

test("a folder that joining makes is its user's alone; one that is there stays as it is", async () => {
  const above = path(home, "above");
  const folder = path(above, "private");
  const bits = async (of: string) => (await stat(of)).mode & 0o777;
  await join({ joinFile: joinFileText(joinFileOf("ward")), folder, random, link: enrolment() });
  expect(await bits(folder)).toBe(0o700);
  expect(await bits(above)).toBe(0o777 & ~process.umask());
  const own = path(home, "own");
  await mkdir(own, { mode: 0o750 });
  await join({ joinFile: joinFileText(joinFileOf("ward")), folder: own, random, link: enrolment() });
  expect(await bits(own)).toBe(0o750 & ~process.umask());
});

// The key into the staging folder, then four files out of it.
test.each([1, 2, 3, 4, 5])(
  "cut after rename %i, joining again finishes with the key that enrolled",
  async (at) => {
    const folder = path(home, `cut-${at}`);
    const joinFile = joinFileText(joinFileOf("ward"));
    const link = enrolment();
    life.renames = at;
    await expect(join({ joinFile, folder, random, link })).rejects.toThrow("killed");
    life.renames = Number.POSITIVE_INFINITY;
    const again = join({ joinFile, folder, random, link });
    // After the last one the device is whole, and joining says so.
    if (at === 5) await expect(again).rejects.toMatchObject({ code: "conflict", what: folder });
    else await again;
    const files = (await readdir(folder)).filter((name) => name !== ".joining");
    expect(files.sort()).toEqual(["device.cert", "device.json", "device.key", "policy.json"]);
    const certificate = new Uint8Array(await readFile(path(folder, "device.cert")));
    expect(certificate).toEqual(link.key());
    const { publicKey } = signingKey(fromBase64((await readFile(path(folder, "device.key"), "utf8")).trim()));
    // The certificate binds the key that lies beside it.
    expect(Buffer.from(certificate).includes(Buffer.from(publicKey))).toBe(true);
  },
);

test("joining renames five files, so the test above cuts after each", async () => {
  life.renames = 1000;
  await join({ joinFile: joinFileText(joinFileOf("ward")), folder: path(home, "count"), link: enrolment() });
  expect(1000 - life.renames).toBe(5);
});

test("a folder that was a device's keeps its key and its policy when it joins anew", async () => {
  const folder = path(home, "anew");
  await join({ joinFile: joinFileText(joinFileOf("ward")), folder, random, link: enrolment() });
  const key = await readFile(path(folder, "device.key"), "utf8");
  await writeFile(path(folder, "policy.json"), "the site's own");
  await rename(path(folder, "device.json"), path(home, "device.json.before"));
  await join({ joinFile: joinFileText(joinFileOf("ward")), folder, random, link: enrolment() });
  expect(await readFile(path(folder, "device.key"), "utf8")).toBe(key);
  expect(await readFile(path(folder, "policy.json"), "utf8")).toBe("the site's own");
  expect(await readdir(folder)).toContain("device.json");
});

test("of two that join a folder at once the second is refused, and the first has its key", async () => {
  const folder = path(home, "twice");
  const joinFile = joinFileText(joinFileOf("ward"));
  const bound = enrolment();
  const [asked, answered] = [gate(), gate()];
  const enroll = async (request: Parameters<typeof bound.enroll>[0]) => {
    asked.open();
    await answered.opened;
    return await bound.enroll(request);
  };
  const first = join({ joinFile, folder, random, link: { enroll } });
  await asked.opened;
  const second = join({ joinFile, folder, random, link: bound });
  await expect(second).rejects.toMatchObject({ code: "conflict", what: folder });
  answered.open();
  await first;
  expect(await readFile(path(folder, "device.cert"))).toEqual(Buffer.from(bound.key()!));
  expect((await readdir(folder)).sort()).toEqual(["device.cert", "device.json", "device.key", "policy.json"]);
});

function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open: () => open(), opened };
}

const used = {
  enroll: async () => {
    throw new Fault("conflict", "token", { got: "used" });
  },
};

test("a used token takes the key made for it along, and none of a joining that was cut", async () => {
  const folder = path(home, "used");
  await expect(
    join({ joinFile: joinFileText(joinFileOf("ward")), folder, random, link: used }),
  ).rejects.toMatchObject({ code: "refused" });
  expect(await readdir(folder)).toEqual([]);
  const [own, other] = [joinFileText(joinFileOf("ward")), joinFileText(joinFileOf("other"))];
  const link = enrolment();
  // Enrolled, and cut before it heard so.
  const deaf = {
    enroll: async (request: Parameters<typeof link.enroll>[0]) => {
      await link.enroll(request);
      throw new Fault("unavailable", "the coordinator");
    },
  };
  await expect(join({ joinFile: own, folder, random, link: deaf })).rejects.toThrow("the coordinator");
  await expect(join({ joinFile: other, folder, random, link: used })).rejects.toMatchObject({
    code: "refused",
  });
  await join({ joinFile: own, folder, random, link });
  expect(await readFile(path(folder, "device.cert"))).toEqual(Buffer.from(link.key()!));
});

test("a site's own policy outlives a second try to join anew", async () => {
  const folder = path(home, "second-try");
  const joinFile = joinFileText(joinFileOf("ward"));
  await mkdir(folder);
  await writeFile(path(folder, "policy.json"), "the site's own");
  const away = {
    enroll: async () => {
      throw new Fault("unavailable", "the coordinator");
    },
  };
  await expect(join({ joinFile, folder, random, link: away })).rejects.toThrow("the coordinator");
  await join({ joinFile, folder, random, link: enrolment() });
  expect(await readFile(path(folder, "policy.json"), "utf8")).toBe("the site's own");
});

test("a used join file keeps no secret and joins nothing any more; another's is left alone", async () => {
  const folder = path(home, "spent");
  const [own, other] = [joinFileOf("ward"), joinFileOf("other")];
  const [file, others] = [path(home, "own.join.json"), path(home, "other.join.json")];
  await writeFile(file, joinFileText(own), { mode: 0o600 });
  await writeFile(others, joinFileText(other));
  const text = await readFile(file, "utf8");
  await join({ joinFile: text, folder, random, link: enrolment() });
  for (const each of [file, others, path(home, "none.join.json"), file]) await spendJoinFile(each, folder);
  const left = parseJoinFile(await readFile(file, "utf8"));
  expect(left).toEqual({ ...own, token: { ...own.token, secret: null } });
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(await readFile(others, "utf8")).toBe(joinFileText(other));
  const again = join({ joinFile: joinFileText(left), folder: path(home, "again"), link: enrolment() });
  await expect(again).rejects.toMatchObject({ code: "refused", message: expect.stringContaining("spent") });
  await expect(readdir(path(home, "again"))).rejects.toThrow("ENOENT");
});

test("a join file that cannot be rewritten is told", async () => {
  const folder = path(home, "stuck");
  const file = path(home, "stuck.join.json");
  await writeFile(file, joinFileText(joinFileOf("ward")));
  await join({ joinFile: await readFile(file, "utf8"), folder, random, link: enrolment() });
  await mkdir(`${file}.new`);
  await expect(spendJoinFile(file, folder)).rejects.toMatchObject({ code: "storage", what: file });
});
