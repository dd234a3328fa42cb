import { writeFile } from "node:fs/promises";
import { createToken } from "@tutti/coordinator/folder/token";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { Command } from "commander";
import { integerIn, withContext } from "../action.ts";

type Options = { federation: string; out?: string; days: number };

export function tokenCommand(): Command {
  return new Command("token")
    .description(
      "Make a one-time join file for a site. Send it over a channel you trust; it can be used once.",
    )
    .argument("<site>", "the site's name, unique in the federation")
    .option("--federation <folder>", "federation folder with the authority key", "federation")
    .option("--out <file>", "where to write the join file (default: <site>.join.json)")
    .option("--days <number>", "how long the site's certificate is valid", integerIn(1, 3650), 365)
    .action((site: string, options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const { federation: folder, days } = options;
        const random = platformRandom();
        const file = options.out ?? `${site}.join.json`;
        const join = await createToken({ folder, name: site, days, random, nowMs: Date.now() });
        // It holds a secret until it is used, and must not replace another site's.
        await writeNew(file, joinFileText(join));
        output.result({ file, site }, `wrote ${file}. At the site: tutti join ${file} --data <folder>`);
      }),
    );
}

async function writeNew(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text, { mode: 0o600, flag: "wx" });
  } catch (cause) {
    const taken = (cause as NodeJS.ErrnoException).code === "EEXIST";
    const got = taken ? "one that exists" : (cause as Error).message;
    const todo = taken ? "Send that one, or name another with --out" : "Choose a folder that can be written";
    throw new Fault(taken ? "conflict" : "bad-input", file, { expected: "a new file", got, todo, cause });
  }
}
