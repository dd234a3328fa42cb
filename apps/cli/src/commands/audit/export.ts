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
    const at = openSync(part, "wx", 0o600);
    handle = at;
    const read = await readLog(whose, { takes: (_entry, line) => writeFileSync(at, `${line}\n`) });
    fsyncSync(at);
    renameSync(part, file);
    return read;
  } catch (cause) {
    if (handle !== undefined) rmSync(part, { force: true });
    throw cause instanceof Fault ? cause : new Fault("storage", file, { got: ioSaid(cause), cause });
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}
