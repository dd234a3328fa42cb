import { mkdirSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { platformRandom } from "@tutti/foundation/random";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import { sharedCluster } from "../../../../claims/support/postgres/shared.ts";
import { openArtifacts } from "../../src/artifacts.ts";
import { backUp } from "../../src/backup/backup.ts";
import { restore } from "../../src/backup/restore.ts";
import { configText } from "../../src/folder/config.ts";
import { initFederation } from "../../src/folder/init.ts";
import { PATHS } from "../../src/folder/layout.ts";
import { openStore } from "../../src/store/store.ts";

if (SKIP_POSTGRES) console.log(`restores to PostgreSQL: skipped, ${NO_POSTGRES}`);
const KINDS = SKIP_POSTGRES ? (["sqlite"] as const) : (["sqlite", "postgres"] as const);

let home: string;
let from: string;
let shelf: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-undone-"));
  const folder = join(home, "federation");
  [from, shelf] = [join(home, "backup"), join(home, "shelf")];
  const about = { name: "f", host: "127.0.0.1", port: 1, random: platformRandom(), nowMs: Date.now() };
  await initFederation({ folder, ...about });
  const file = join(folder, PATHS.config);
  const plain = JSON.parse(await readFile(file, "utf8"));
  await writeFile(file, configText({ ...plain, artifacts: { folder: shelf } }));
  await openArtifacts(shelf).putBytes(Uint8Array.of(1, 2, 3));
  await (await openStore({ file: join(folder, PATHS.store) })).close();
  await backUp({ folder, to: from, nowMs: 1 });
});
afterAll(() => rm(home, { recursive: true, force: true }));

test.each(KINDS)(
  "a restore to %s that does not get its name fills nothing, and may be tried again",
  async (kind) => {
    const store =
      kind === "sqlite"
        ? ({ engine: "sqlite" } as const)
        : ({ engine: "postgres", url: await (await sharedCluster()).database(), poolSize: 2 } as const);
    const folder = join(home, kind);
    await rm(shelf, { recursive: true });
    const said: string[] = [];
    // Somebody else takes the name when artifacts are there, and rows are read.
    const throwIfAborted = () => {
      if (said.some((line) => line.includes(shelf))) mkdirSync(join(folder, "taken"), { recursive: true });
    };
    const signal = { throwIfAborted } as unknown as AbortSignal;
    const progress = (line: string) => said.push(line);
    const failed = restore({ from, folder, store, nowMs: 1, progress, signal });
    await expect(failed).rejects.toMatchObject({ code: "storage", what: folder });
    expect(said).toContain(`1 artifacts put into ${shelf}; they stay there`);
    expect(await readdir(folder)).toEqual(["taken"]);
    expect((await readdir(home)).filter((name) => name.endsWith(".part"))).toEqual([]);
    await rm(folder, { recursive: true });
    await restore({ from, folder, store, nowMs: 1 });
    expect(await readdir(folder)).toContain("tutti.json");
  },
);
