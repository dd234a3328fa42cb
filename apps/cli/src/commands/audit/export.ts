import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { Fault } from "@tutti/foundation/fault";
import { Command } from "commander";
import { withContext } from "../../action.ts";
import { ioSaid } from "../../files.ts";
import { missingOf, type Read, readLog, type Whose } from "./log.ts";

export function exportCommand(): Command {
  return new Command("export")
    .description("Write an audit log's lines as they are into a new file, once its chain was found whole.")
    .argument("<file>", "a new file, which `tutti audit verify --older` takes")
    .option("--federation <folder>", "the coordinator's log, of this federation folder (default)")
    .option("--device <folder>", "a device's own log instead")
    .action((file: string, whose: Whose, command: Command) =>
      withContext(command, async ({ output }) => {
        const read = await writeLog(file, whose);
        const { of, head, begins } = read;
        const missing = missingOf(read);
        output.result(
          { of, file, begins, entries: head.count, head: head.hash },
          `entries ${begins} to ${head.count - 1} of ${of} in ${file}${missing ? `; ${missing}` : ""}`,
        );
      }),
    );
}

/** Under its name once it is whole and durable. */
async function writeLog(file: string, whose: Whose): Promise<Read> {
  if (existsSync(file))
    throw new Fault("conflict", file, {
      expected: "a new file",
      got: "one that is there",
      todo: "Name another",
    });
  const part = `${file}.${process.pid}.part`;
  let handle: number | undefined;
  try {
    const at = written(file, () => openSync(part, "wx", 0o600));
    handle = at;
    // A write's own error, before the reader of the log takes it for one of the log's store.
    const takes = (_entry: unknown, line: string) => written(file, () => writeFileSync(at, `${line}\n`));
    const read = await readLog(whose, { takes });
    written(file, () => {
      fsyncSync(at);
      renameSync(part, file);
    });
    return read;
  } catch (cause) {
    if (handle !== undefined) rmSync(part, { force: true });
    throw cause;
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}

function written<T>(file: string, write: () => T): T {
  try {
    return write();
  } catch (cause) {
    const absent = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const got = absent ? "no such folder" : ioSaid(cause);
    throw new Fault("storage", `writing ${file}`, { expected: "a place with room", got, cause });
  }
}
