import { access } from "node:fs/promises";
import { asFault, Fault } from "@tutti/foundation/fault";

/** Opening would make one. @throws Fault("not-found") */
export async function mustBeThere(file: string): Promise<void> {
  await access(file).catch((cause: unknown) => {
    const todo = "`tutti serve` makes it at its first start";
    throw new Fault("not-found", file, { expected: "a store", got: "none", todo, cause });
  });
}

/** SQLITE_NOTADB and SQLITE_CORRUPT, as both packages say them. */
const DAMAGE = /file is not a database|disk image is malformed/i;

/** What SQLite, or one of ours, threw while the file was opened or read. */
export function sqliteFault(cause: unknown, { file, what }: { file: string; what: string }): Fault {
  if (cause instanceof Fault) return cause;
  const got = asFault(cause).message;
  if (!DAMAGE.test(got)) return new Fault("storage", what, { got, cause });
  return new Fault("storage", file, {
    expected: "a SQLite database",
    got: `a damaged one, of which SQLite says ${JSON.stringify(got)}`,
    todo: "Leave it as it is, and restore a backup into a new folder (docs/operating.md, Backup and restore)",
    cause,
  });
}
