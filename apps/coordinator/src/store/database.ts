import { hostname } from "node:os";
import { isAbsolute, join } from "node:path";
import type { Config } from "../folder/config.ts";
import { PATHS, readText } from "../folder/layout.ts";
import type { Engine } from "./engine.ts";
import { openSqlite } from "./open.ts";
import { openPostgres } from "./postgres.ts";

/** Opens the database that a federation's config names; paths in it count from its folder. */
export async function openDatabase(folder: string, { store }: Pick<Config, "store">): Promise<Engine> {
  if (store.engine === "sqlite") return await openSqlite({ file: join(folder, PATHS.store) });
  const { url, urlFile = "", poolSize } = store;
  const read = () => readText(isAbsolute(urlFile) ? "/" : folder, urlFile);
  const name = `tutti ${hostname()} ${process.pid}`.slice(0, 48);
  return await openPostgres({ url: url ?? (await read()).trim(), poolSize, name });
}
