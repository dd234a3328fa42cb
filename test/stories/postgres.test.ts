import { describe, expect, test } from "vitest";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../claims/support/postgres/binaries.ts";
import { Cluster } from "../../claims/support/postgres/cluster.ts";
import { sharedCluster } from "../../claims/support/postgres/shared.ts";

if (SKIP_POSTGRES) console.log(`a PostgreSQL of our own: skipped, ${NO_POSTGRES}`);

/** What tests of storage rest on: a server that dies keeps what it said it had. */
describe.skipIf(SKIP_POSTGRES)("a PostgreSQL of our own", () => {
  test("killed, it comes back with what was committed; frozen, with what was asked meanwhile", {
    timeout: 120_000,
  }, async () => {
    const cluster = await Cluster.open();
    try {
      const database = new URL(await cluster.database()).pathname.slice(1);
      await cluster.query(database, "create table t (x integer)");
      await cluster.query(database, "insert into t values (7)");
      await cluster.kill();
      await expect(cluster.query(database, "select x from t")).rejects.toThrow();
      await cluster.start();
      expect(await cluster.query(database, "select x from t")).toBe("7");
      await cluster.freeze();
      const late = cluster.query(database, "select x + 1 from t");
      await cluster.resume();
      expect(await late).toBe("8");
    } finally {
      await cluster.close();
    }
  });

  test("is one for the whole run, with a database for whoever asks", async () => {
    const [one, other] = [await sharedCluster(), await sharedCluster()];
    expect(other.place).toEqual(one.place);
    const [a, b] = [await one.database(), await one.database()];
    expect(a).not.toBe(b);
    expect(await one.query("postgres", "show fsync")).toBe("on");
  });
});
