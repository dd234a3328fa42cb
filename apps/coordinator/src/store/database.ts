import { hostname } from "node:os";
import { isAbsolute, join } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import type { Config } from "../folder/config.ts";
import { PATHS, readText } from "../folder/layout.ts";
import type { Engine } from "./engine.ts";
import { openSqlite } from "./open.ts";

/** Opens the database that a federation's config names; paths in it count from its folder. */
export async function openDatabase(folder: string, { store }: Pick<Config, "store">): Promise<Engine> {
  if (store.engine === "sqlite") return await openSqlite({ file: join(folder, PATHS.store) });
  // The client of a server that most federations do not have.
  const { openPostgres } = await import("./postgres.ts");
  const name = `tutti ${hostname()} ${process.pid}`.slice(0, 48);
  return await openPostgres({ url: await postgresUrl(folder, store), poolSize: store.poolSize, name });
}

/** From the config itself, or from the file that it names. */
export async function postgresUrl(
  folder: string,
  { url, urlFile = "" }: { url?: string; urlFile?: string },
): Promise<string> {
  if (url !== undefined) return url;
  const text = await readText(isAbsolute(urlFile) ? "/" : folder, urlFile).catch((cause: unknown) => {
    if (!(cause instanceof Fault && cause.code === "not-found")) throw cause;
    const todo =
      "store.urlFile of tutti.json names it: write postgres://user:password@host:port/database there";
    throw new Fault("not-found", cause.what, {
      expected: "a file with the database's URL",
      got: "none",
      todo,
      cause,
    });
  });
  return text.trim();
}
