import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cluster } from "./claims/support/postgres/cluster.ts";
import { placeIn } from "./claims/support/postgres/shared.ts";

/** A place for the one PostgreSQL of a test run; nothing is started before a test asks for it. */
export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "tutti-tests-"));
  process.env.TUTTI_TEST_POSTGRES = folder;
  process.env.TUTTI_TEST_POSTGRES_OWNER = `${process.pid}`;
  return async () => {
    const place = await placeIn(folder);
    if (place && !("failed" in place)) await new Cluster(place).close();
    await rm(folder, { recursive: true, force: true });
  };
}
