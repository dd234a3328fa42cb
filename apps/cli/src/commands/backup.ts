import { backUp } from "@tutti/coordinator/backup/backup";
import { Command } from "commander";
import { withContext } from "../action.ts";

const HELP = `
It may be made while coordinators run, and costs them a read. In it are the database, every artifact (unless
they are in a bucket) and the coordinator's files with its keys; the keys of authority and owner are not. Keep
it as you keep those: whoever has it can pose as the coordinator.

The result's sha256 is that of the manifest, which names the hash of every file: note it elsewhere.`;

export function backupCommand(): Command {
  return new Command("backup")
    .description("Copy a federation's database, artifacts and coordinator's files into one new folder.")
    .argument("<to>", "a new folder")
    .option("--federation <folder>", "federation folder", "federation")
    .addHelpText("after", HELP)
    .action((to: string, options: { federation: string }, command: Command) =>
      withContext(command, async ({ output, signal }) => {
        const progress = (line: string) => output.say(line);
        const about = { folder: options.federation, to, nowMs: Date.now(), progress, signal };
        const { manifest, sha256, bytes } = await backUp(about);
        const { federation, epoch, files, artifacts } = manifest;
        const what = `${federation} at epoch ${epoch}: ${files.length} files, ${bytes} bytes in ${to}`;
        const rest = artifacts === "bucket" ? "; artifacts are in their bucket, and not in here" : "";
        output.result(
          { to, federation, epoch, files: files.length, bytes, artifacts, sha256 },
          `${what}; manifest ${sha256}${rest}`,
        );
      }),
    );
}
