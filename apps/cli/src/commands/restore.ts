import { resolve } from "node:path";
import { restore } from "@tutti/coordinator/backup/restore";
import { Fault } from "@tutti/foundation/fault";
import { Command } from "commander";
import { withContext } from "../action.ts";

type Options = {
  readonly to: string;
  readonly postgres?: string;
  readonly sqlite?: boolean;
  readonly sha256?: string;
};

const HELP = `
Every file is checked against the manifest before anything is written, and nothing is overwritten: the folder
must be new, and of PostgreSQL the database empty. The epoch that follows is above any before it, so a
coordinator of before that still runs can write nothing here; stop it all the same.

Devices that took a release newer than the backup's go on with what they have and refuse the older one: for
them the restored run is over, and a new run begins where they are (docs/operating.md, Backup and restore).`;

export function restoreCommand(): Command {
  return new Command("restore")
    .description("Make a coordinator's folder and fill its database from a backup.")
    .argument("<backup>", "the folder that `tutti backup` made")
    .option("--to <folder>", "a new federation folder", "federation")
    .option("--postgres <url-file>", "into the empty PostgreSQL whose URL this file holds")
    .option("--sqlite", "into a SQLite file, whatever the backup was taken from")
    .option("--sha256 <hash>", "what `tutti backup` said of the manifest; any other is refused")
    .addHelpText("after", HELP)
    .action((from: string, options: Options, command: Command) =>
      withContext(command, async ({ output, signal }) => {
        const store = storeOf(options);
        const expected = options.sha256;
        const { manifest, epoch, sha256 } = await restore({
          from,
          folder: options.to,
          nowMs: Date.now(),
          signal,
          progress: (line) => output.say(line),
          ...(store && { store }),
          ...(expected !== undefined && { expected }),
        });
        const { federation } = manifest;
        output.result(
          { to: options.to, federation, epoch, sha256 },
          `${federation} of ${manifest.madeAt} is in ${options.to}, at epoch ${epoch}`,
        );
      }),
    );
}

function storeOf({ postgres, sqlite }: Options) {
  if (postgres !== undefined && sqlite)
    throw new Fault("bad-input", "restore", { expected: "--postgres or --sqlite", got: "both" });
  if (sqlite) return { engine: "sqlite" } as const;
  if (postgres === undefined) return undefined;
  return { engine: "postgres", urlFile: resolve(postgres), poolSize: 8 } as const;
}
