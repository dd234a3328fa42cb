import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

const DEBIAN = "/usr/lib/postgresql";

/** The folder with this machine's initdb, postgres and psql; null where there is none. */
export const POSTGRES: string | null =
  [fromEnvironment, fromConfig, fromDebian]
    .flatMap((find) => find())
    .find((folder) => ["initdb", "postgres", "psql"].every((name) => existsSync(join(folder, name)))) ?? null;

export const NO_POSTGRES =
  "no PostgreSQL here (Debian: apt-get install postgresql; or PG_BIN=<folder with initdb and postgres>)";

/** Whether tests that need it are left out: never in CI, where what is missing is a failure. */
export const SKIP_POSTGRES = POSTGRES === null && process.env.CI !== "true";

function fromEnvironment(): string[] {
  return process.env.PG_BIN ? [process.env.PG_BIN] : [];
}

function fromConfig(): string[] {
  try {
    return [execFileSync("pg_config", ["--bindir"], { encoding: "utf8", stdio: "pipe" }).trim()];
  } catch {
    return [];
  }
}

/** Debian keeps the server's programs out of the path; the newest version first. */
function fromDebian(): string[] {
  if (!existsSync(DEBIAN)) return [];
  const versions = readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a));
  return versions.map((version) => join(DEBIAN, version, "bin"));
}
