import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Finding } from "@tutti/foundation/finding";
import { platformRandom } from "@tutti/foundation/random";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../../../claims/support/free-port.ts";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import type { Cluster } from "../../../../claims/support/postgres/cluster.ts";
import { sharedCluster } from "../../../../claims/support/postgres/shared.ts";
import { initFederation } from "../../src/folder/init.ts";
import { examineFederation } from "../../src/operate/doctor/doctor.ts";
import { openPostgres } from "../../src/store/postgres.ts";

if (SKIP_POSTGRES) console.log(`doctor on PostgreSQL: skipped, ${NO_POSTGRES}`);

/** The unit runs doctor before the first start: what is merely new must not fail. */
describe.skipIf(SKIP_POSTGRES)("doctor on PostgreSQL", () => {
  let folder: string;
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await sharedCluster();
    folder = join(await mkdtemp(join(tmpdir(), "tutti-doctor-pg-")), "federation");
    const port = await freePort();
    const about = { folder, name: "f", host: "127.0.0.1", port, random: platformRandom() };
    await initFederation({ ...about, nowMs: Date.now() });
  }, 120_000);
  afterAll(() => rm(join(folder, ".."), { recursive: true, force: true }));

  async function looked(url: string): Promise<{ fails: readonly Finding[]; store: Finding }> {
    const file = join(folder, "tutti.json");
    const given = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...given, store: { engine: "postgres", url } }));
    const findings = await examineFederation(folder, () => Promise.reject(new Error("nobody there")));
    const fails = findings.filter(({ state }) => state === "fail");
    return { fails, store: findings.find(({ what }) => what === "store")! };
  }

  test("an empty database is no failure, before the first start", async () => {
    const url = await cluster.database();
    const { fails, store } = await looked(url);
    expect(fails).toEqual([]);
    expect(store).toMatchObject({ state: "warn", says: expect.stringContaining("empty") });
    await (await openPostgres({ url })).close();
    const after = await looked(url);
    expect(after.fails).toEqual([]);
    expect(after.store.state).toBe("ok");
  });

  test("a database that is not there: how to make it", async () => {
    const { store } = await looked(cluster.url("nowhere"));
    expect(store).toMatchObject({ state: "fail", todo: expect.stringContaining("createdb nowhere") });
    await expect(openPostgres({ url: cluster.url("nowhere") })).rejects.toThrow("createdb nowhere");
  });
});
