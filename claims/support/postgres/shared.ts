import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Cluster, type Place } from "./cluster.ts";

/** Set by vitest.setup.ts: where the one cluster of a test run is written down. */
const VARIABLE = "TUTTI_TEST_POSTGRES";
/** The run's own process; its workers come and go. */
const OWNER = "TUTTI_TEST_POSTGRES_OWNER";
const LOOK_MS = 50;

/**
 * The one cluster of this vitest run, started by whoever asks first; it ends with the run. Tests that kill or
 * stop a server make their own with `Cluster.open`.
 */
export async function sharedCluster(): Promise<Cluster> {
  const folder = process.env[VARIABLE];
  if (!folder) throw new Error(`${VARIABLE} is not set: is vitest.setup.ts in vitest.config.ts?`);
  if (await isFirst(folder)) await make(folder, Number(process.env[OWNER] ?? process.pid));
  for (;;) {
    const place = await placeIn(folder);
    if (place && "failed" in place) throw new Error(place.failed);
    if (place) return new Cluster(place);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** What the run started, if it started one; `vitest.setup.ts` ends it. */
export async function placeIn(folder: string): Promise<Place | { readonly failed: string } | undefined> {
  const text = await readFile(join(folder, "place.json"), "utf8").catch(() => undefined);
  return text === undefined ? undefined : JSON.parse(text);
}

async function make(folder: string, owner: number): Promise<void> {
  const place = await Cluster.open({ owner }).then(
    (cluster) => cluster.place,
    (error: unknown) => ({ failed: String(error) }),
  );
  await writeFile(join(folder, "place.part"), JSON.stringify(place));
  await rename(join(folder, "place.part"), join(folder, "place.json"));
}

async function isFirst(folder: string): Promise<boolean> {
  return await mkdir(join(folder, "first")).then(
    () => true,
    () => false,
  );
}
