import { rmSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sha256Hex } from "@tutti/foundation/hash";
import { platformRandom } from "@tutti/foundation/random";
import { signPlan } from "@tutti/release/plan";
import { firstHeader } from "@tutti/round/run";
import { RunHeaderSchema } from "@tutti/wire/journal";
import { encode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import { sharedCluster } from "../../../../claims/support/postgres/shared.ts";
import { openArtifacts } from "../../src/artifacts.ts";
import { backUp } from "../../src/backup/backup.ts";
import { MANIFEST } from "../../src/backup/manifest.ts";
import { restore } from "../../src/backup/restore.ts";
import { decodeHeader } from "../../src/drive/run-store.ts";
import { configText, parseConfig } from "../../src/folder/config.ts";
import { initFederation } from "../../src/folder/init.ts";
import { COORDINATOR_FILES, PATHS } from "../../src/folder/layout.ts";
import { openDatabase } from "../../src/store/database.ts";
import { epochAfter, snapshot, TABLE_NAMES } from "../../src/store/dump.ts";
import type { Engine } from "../../src/store/engine.ts";
import { openSource } from "../../src/store/source.ts";
import { openSqliteDriver } from "../../src/store/sqlite-driver.ts";
import { type Store, storeOf } from "../../src/store/store.ts";
import { BASE, INITIAL, OWNER, plan } from "../drive/house.ts";
import { aRun, bytes, lead } from "../store/bench.ts";

if (SKIP_POSTGRES) console.log(`backups of PostgreSQL: skipped, ${NO_POSTGRES}`);
const KINDS = SKIP_POSTGRES ? (["sqlite"] as const) : (["sqlite", "postgres"] as const);
type Kind = (typeof KINDS)[number];

let home: string;
let folder: string;
const open: Engine[] = [];
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-backup-"));
  folder = join(home, "federation");
  const about = { name: "hearts", host: "127.0.0.1", port: 7443, random: platformRandom() };
  await initFederation({ folder, ...about, nowMs: Date.now() });
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((engine) => engine.close()));
  await rm(home, { recursive: true, force: true });
});

const storeFor = async (kind: Kind) =>
  kind === "sqlite"
    ? ({ engine: "sqlite" } as const)
    : ({ engine: "postgres", url: await (await sharedCluster()).database(), poolSize: 4 } as const);

const configOf = async (at: string) => parseConfig(await readFile(join(at, "tutti.json"), "utf8"));

/** A federation's database of this kind, with a coordinator that leads. */
async function leading(kind: Kind, at = folder): Promise<Store> {
  const file = join(at, "tutti.json");
  const plain = JSON.parse(await readFile(file, "utf8"));
  await writeFile(file, configText({ ...plain, store: await storeFor(kind) }));
  return await leadIn(at);
}

async function leadIn(at: string): Promise<Store> {
  const engine = await openDatabase(at, await configOf(at));
  open.push(engine);
  return await lead(engine, () => 1000);
}

/** Something in every place that matters. */
async function furnish(store: Store): Promise<string> {
  const artifact = await openArtifacts(join(folder, "coordinator", "artifacts")).putBytes(bytes(1, 2, 3));
  // Its plan is no plan, and so it must not be in progress: what a run in progress needs is looked for.
  const run = { ...aRun, state: "finished", plan: new Uint8Array(50_000).map((_, at) => at * 7) };
  await store.addRun(run);
  await store.addDevice({ name: "ward-3", serial: bytes(9), certificate: bytes(0, 255, 128) });
  const append = Array.from({ length: 45 }, (_, seq) => ({ seq, entry: bytes(seq, seq + 1) }));
  const sums = [0, 3].map((cohort) => ({ cohort, words: new Uint8Array(4096).fill(cohort + 1) }));
  await store.commit("r1", { append, sums, release: { version: 0, digest: "é\n\"'", envelope: bytes() } });
  return artifact;
}

async function everything(at: string): Promise<Record<string, string[]>> {
  const source = await openSource(at, await configOf(at));
  const tables: Record<string, string[]> = {};
  await snapshot(source, async ({ lines }) => {
    for (const table of TABLE_NAMES) {
      tables[table] = [];
      for await (const line of lines(table)) tables[table]!.push(line);
    }
  });
  await source.close();
  return tables;
}

const back = (change: Partial<Parameters<typeof restore>[0]> = {}) =>
  restore({ from: join(home, "backup"), folder: join(home, "again"), nowMs: 2_000_000, ...change });

describe.each(KINDS)("a backup of %s", (from) => {
  test.each(KINDS)(
    "restored to %s holds every row, artifact and file, at an epoch of its own",
    async (to) => {
      const store = await leading(from);
      const artifact = await furnish(store);
      const { manifest, sha256 } = await backUp({ folder, to: join(home, "backup"), nowMs: 1_000_000 });
      expect(manifest).toMatchObject({ federation: "hearts", engine: from, epoch: 1, artifacts: "here" });
      const { epoch } = await back({ store: await storeFor(to), expected: sha256 });
      expect(epoch).toBe(epochAfter(1, 2_000_000));
      const again = join(home, "again");
      const [before, after] = [await everything(folder), await everything(again)];
      const own = ["lease", "epochs", "audit", "audit_head"];
      for (const table of TABLE_NAMES.filter((name) => !own.includes(name)))
        expect(after[table], table).toEqual(before[table]);
      expect(before.journal).toHaveLength(45);
      // What happened before is told as it was; that it was restored follows it.
      expect(after.audit!.slice(0, -1)).toEqual(before.audit);
      expect(after.audit!.at(-1)).toContain("store.restored");
      expect(after.epochs).toHaveLength(2);
      expect(await openArtifacts(join(again, "coordinator", "artifacts")).read(artifact)).toEqual(
        bytes(1, 2, 3),
      );
      for (const file of ["coordinator.key", "coordinator.cert", "tls.key", "tls.pem"]) {
        const path = join("coordinator", file);
        expect(await readFile(join(again, path))).toEqual(await readFile(join(folder, path)));
        expect((await stat(join(again, path))).mode & 0o077, file).toBe(0);
      }
      expect(await readdir(home)).toEqual(["again", "backup", "federation"]);
      // The next leader goes on above it; one of before, were it to come here, may not write.
      const next = await leadIn(again);
      expect(next.epoch).toBe(epoch + 1);
      const old = storeOf({ engine: open.at(-1)!, epoch: 1 });
      await expect(old.commit("r1", { state: "failed" })).rejects.toMatchObject({ what: "lease" });
      expect(await next.run("r1")).toMatchObject({ state: "finished" });
      expect(await next.integrity()).toBe(true);
    },
  );

  test("is of one moment, whatever is written meanwhile", async () => {
    const store = await leading(from);
    await store.addRun({ ...aRun, state: "finished" });
    let on = true;
    let written = 0;
    const writing = (async () => {
      for (; on; written++) {
        const words = new Uint8Array(1024).fill(written & 255);
        const append = [{ seq: written, entry: bytes(written & 255, written >> 8) }];
        await store.commit("r1", { append, sums: [{ cohort: 0, words }] });
        // SQLite answers within one turn of the event loop.
        await new Promise(setImmediate);
      }
    })();
    for (let time = 0; time < 3; time++) {
      const enough = written + 30;
      while (written < enough) await new Promise(setImmediate);
      await backUp({ folder, to: join(home, `backup-${time}`), nowMs: 1 });
    }
    on = false;
    await writing;
    for (let time = 0; time < 3; time++) {
      const at = join(home, `again-${time}`);
      await back({ from: join(home, `backup-${time}`), folder: at, store: { engine: "sqlite" } });
      const { entries, sums } = await (await leadIn(at)).journal("r1");
      expect(entries.length).toBeGreaterThanOrEqual(30 * (time + 1));
      // The sum is of the same transaction as the last entry.
      expect(sums[0]!.words[0]).toBe((entries.length - 1) & 255);
    }
  });
});

describe("a restore refuses, and leaves nothing behind,", () => {
  async function backedUp(): Promise<string> {
    await furnish(await leading("sqlite"));
    return (await backUp({ folder, to: join(home, "backup"), nowMs: 1 })).sha256;
  }
  const refused = async (match: object, change: Parameters<typeof back>[0] = {}) => {
    await expect(back(change)).rejects.toMatchObject(match);
    expect((await readdir(home)).filter((name) => /again|part/.test(name))).toEqual([]);
  };

  test("a file that was changed, cut, or is gone, whichever it is", async () => {
    await backedUp();
    const { files } = JSON.parse(await readFile(join(home, "backup", MANIFEST), "utf8"));
    expect(files.length).toBeGreaterThan(TABLE_NAMES.length + 5);
    for (const { path } of files as { path: string }[]) {
      const file = join(home, "backup", path);
      const good = await readFile(file);
      const changed = Buffer.from(good);
      if (changed.length > 0) changed[changed.length >> 1]! ^= 1;
      for (const bad of [Buffer.concat([good, Buffer.of(10)]), ...(good.length > 0 ? [changed] : [])]) {
        await writeFile(file, bad);
        await refused({ code: "refused", what: file });
      }
      await rm(file);
      await refused({ code: "refused", what: file });
      await writeFile(file, good);
    }
  });

  test("a manifest that is not there, is another, names a way out, or lacks a table", async () => {
    const sha256 = await backedUp();
    await refused({ code: "refused" }, { expected: "0".repeat(64) });
    const file = join(home, "backup", MANIFEST);
    const text = await readFile(file, "utf8");
    const change = async (edit: (manifest: { files: { path: string }[]; migrations: number }) => void) => {
      const manifest = JSON.parse(text);
      edit(manifest);
      await writeFile(file, JSON.stringify(manifest));
    };
    for (const path of ["folder/../../etc", "/etc/passwd", "folder/..", "store/x/y.jsonl", "artifacts/AB"]) {
      await change(({ files }) => Object.assign(files[0]!, { path }));
      await refused({ code: "bad-input" });
    }
    await change(({ files }) => files.splice(0, files.length));
    await refused({ code: "unsupported" });
    await change((manifest) => Object.assign(manifest, { migrations: 999 }));
    await refused({ code: "unsupported" });
    await writeFile(file, "{");
    await refused({ code: "bad-input" });
    await rm(file);
    await refused({ code: "not-found" });
    expect(sha256).toHaveLength(64);
  });

  test("a folder that is there", async () => {
    await backedUp();
    await expect(back({ folder })).rejects.toMatchObject({ code: "conflict" });
  });

  test("of a PostgreSQL whose URL's file is not in the backup: where to say another", async () => {
    await backedUp();
    const at = join(home, "backup");
    const [file, manifest] = [join(at, "folder", "tutti.json"), join(at, MANIFEST)];
    const plain = JSON.parse(await readFile(file, "utf8"));
    const store = { engine: "postgres", urlFile: "store-url", poolSize: 4 } as const;
    const text = configText({ ...plain, store });
    await writeFile(file, text);
    const said = JSON.parse(await readFile(manifest, "utf8"));
    const about = { bytes: Buffer.byteLength(text), sha256: sha256Hex(Buffer.from(text)) };
    const files = said.files.map((one: { path: string }) =>
      one.path === "folder/tutti.json" ? { ...one, ...about } : one,
    );
    await writeFile(manifest, JSON.stringify({ ...said, files }));
    const wanted = { code: "not-found", message: expect.stringMatching(/store-url.*--postgres.*--sqlite/) };
    await refused(wanted);
    await expect(back({ store: { engine: "sqlite" } })).resolves.toBeDefined();
  });

  test.skipIf(SKIP_POSTGRES)("a PostgreSQL that coordinators used", async () => {
    await backedUp();
    const store = await storeFor("postgres");
    await back({ store });
    const conflict = { code: "conflict", what: "database" };
    await expect(back({ store, folder: join(home, "third") })).rejects.toMatchObject(conflict);
    expect(await readdir(home)).toEqual(["again", "backup", "federation"]);
  });
});

/** Rounds that end while a backup is taken, with a rule that keeps nothing of older ones. */
describe("a backup while rounds end", () => {
  const shelf = () => join(folder, "coordinator", "artifacts");
  const name = (state: string) => sha256Hex(Buffer.from(state));
  const put = (state: string) => writeFileSync(join(shelf(), name(state)), state);
  const remove = (state: string) => rmSync(join(shelf(), name(state)));
  const headerFrom = (state: string) => {
    const header = firstHeader({ version: 0, manifest: "", adapter: sha256Hex(INITIAL) });
    return encode(RunHeaderSchema, { ...header, strategy: name(state) });
  };
  /** From now on the run goes on from this; synchronous, so that a backup's own progress can do it. */
  const goOnFrom = (state: string) => {
    const driver = openSqliteDriver(join(folder, "coordinator", "tutti.sqlite"));
    driver.exec(`update runs set header = x'${Buffer.from(headerFrom(state)).toString("hex")}'`);
    driver.close();
  };
  const take = async (onLine: (line: string) => void) => {
    const store = await leading("sqlite");
    const artifacts = openArtifacts(shelf());
    for (const bytes of [BASE, INITIAL]) await artifacts.putBytes(bytes);
    const envelope = encode(SignedEnvelopeSchema, signPlan(plan(), OWNER));
    put("first");
    await store.addRun({
      run: "r1",
      name: "r1",
      plan: envelope,
      header: headerFrom("first"),
      state: "running",
    });
    return await backUp({ folder, to: join(home, "backup"), nowMs: 1, progress: onLine });
  };
  /** What the run in the backup goes on from, which must be in it too. */
  const goesOnFrom = async () => {
    await back();
    const again = join(home, "again");
    const { strategy } = decodeHeader((await (await leadIn(again)).run("r1"))!.header);
    return await readFile(join(again, "coordinator", "artifacts", strategy), "utf8");
  };

  test("has the files of its own moment, though they go while the database is written down", async () => {
    let began = false;
    await take((line) => {
      if (line.endsWith("artifacts") && !began) {
        began = true;
        put("second");
        goOnFrom("second");
      }
      if (!line.startsWith("the database")) return;
      put("third");
      goOnFrom("third");
      remove("second");
    });
    expect(await goesOnFrom()).toBe("second");
  });

  test("takes another moment when a file of the first is gone already", async () => {
    const lines: string[] = [];
    await take((line) => {
      lines.push(line);
      if (lines.length === 1) goOnFrom("gone");
      if (!line.includes("once more")) return;
      put("third");
      goOnFrom("third");
    });
    expect(lines.filter((line) => line.includes("once more"))).toHaveLength(1);
    expect(await goesOnFrom()).toBe("third");
  });

  test("gives up by name when no moment has its files, and leaves nothing", async () => {
    let more = 0;
    const taking = take((line) => {
      if (line.endsWith("artifacts")) goOnFrom("gone");
      if (line.includes("once more")) more++;
    });
    const what = `artifact ${name("gone").slice(0, 12)} of run r1`;
    await expect(taking).rejects.toMatchObject({ code: "conflict", what });
    expect(more).toBe(4);
    expect(await readdir(home)).toEqual(["federation"]);
  });
});

test("a backup is its user's alone, and takes the coordinator's files where they are links", async () => {
  await furnish(await leading("sqlite"));
  const secrets = join(home, "secrets");
  await rename(join(folder, "coordinator", "tls.key"), secrets);
  await symlink(secrets, join(folder, "coordinator", "tls.key"));
  await writeFile(join(folder, "coordinator", "peers.pem"), "others\n", { mode: 0o644 });
  const to = join(home, "backup");
  const { manifest } = await backUp({ folder, to, nowMs: 1 });
  const own = manifest.files.map(({ path }) => path).filter((path) => path.startsWith("folder/"));
  const wanted = [...COORDINATOR_FILES, PATHS.peerCertificates].map((path) => `folder/${path}`);
  expect(own.sort()).toEqual(wanted.sort());
  expect(await readFile(join(to, "folder", PATHS.tlsKey))).toEqual(await readFile(secrets));
  for (const entry of [".", ...(await readdir(to, { recursive: true }))])
    expect((await stat(join(to, entry))).mode & 0o077, entry).toBe(0);
});

describe("a backup refuses, and leaves nothing behind,", () => {
  const refused = async (match: object) => {
    await expect(backUp({ folder, to: join(home, "backup"), nowMs: 1 })).rejects.toMatchObject(match);
    expect(await readdir(home)).toEqual(["federation"]);
  };

  test("a store that was never made, and an artifact that the disk changed", async () => {
    await refused({ code: "not-found" });
    const artifact = await furnish(await leading("sqlite"));
    await writeFile(join(folder, "coordinator", "artifacts", artifact), "other");
    await refused({ code: "storage", what: `artifact ${artifact.slice(0, 12)}` });
  });

  test("artifacts that cannot be listed", async () => {
    await leading("sqlite");
    const shelf = join(folder, "coordinator", "artifacts");
    await rm(shelf, { recursive: true });
    await writeFile(shelf, "a file in the folder's place");
    await refused({ code: "storage", message: expect.stringContaining("ENOTDIR") });
  });

  test.each(COORDINATOR_FILES)("a federation without %s", async (path) => {
    await leading("sqlite");
    await rm(join(folder, path));
    await refused({ code: "not-found", what: join(folder, path) });
  });

  test("a place that is taken", async () => {
    await leading("sqlite");
    await expect(backUp({ folder, to: folder, nowMs: 1 })).rejects.toMatchObject({ code: "conflict" });
  });
});

test("the epoch after a restore is above every one before it, also of an earlier restore", () => {
  const first = epochAfter(7, 1_700_000_000_000);
  expect(first).toBeGreaterThan(7 + 1_000_000);
  expect(epochAfter(7, 1_700_000_000_001)).toBeGreaterThan(first);
  // Though the clock was set back.
  expect(epochAfter(first, 0)).toBeGreaterThan(first + 1_000_000);
});
