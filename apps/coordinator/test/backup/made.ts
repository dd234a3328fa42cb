import { join } from "node:path";
import { platformRandom } from "@tutti/foundation/random";
import { backUp } from "../../src/backup/backup.ts";
import { initFederation } from "../../src/folder/init.ts";
import { PATHS } from "../../src/folder/layout.ts";
import { openStore } from "../../src/store/store.ts";

/** The backup of a small federation, both in `home`: its folder. */
export async function madeBackup(home: string): Promise<string> {
  const [folder, to] = [join(home, "federation"), join(home, "backup")];
  const about = { name: "f", host: "127.0.0.1", port: 1, random: platformRandom(), nowMs: Date.now() };
  await initFederation({ folder, ...about });
  const store = await openStore({ file: join(folder, PATHS.store) });
  await store.note({ actor: "a", what: "b", subject: "c" });
  await store.close();
  await backUp({ folder, to, nowMs: 1 });
  return to;
}
