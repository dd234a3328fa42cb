import { writeFile } from "node:fs/promises";
import { createToken } from "@tutti/coordinator/folder/token";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { Command, InvalidArgumentError } from "commander";
import { integerIn, withContext } from "../action.ts";

type Labels = Record<string, string>;
type Options = {
  federation: string;
  out?: string;
  days: number;
  tokenDays?: number;
  count?: number;
  site?: string;
  siteLimit?: number;
  label?: Labels;
};

const MAX_COUNT = 10_000;

export function tokenCommand(): Command {
  return new Command("token")
    .description(
      "Make a one-time join file for a device, or for many. Send it over a channel you trust; " +
        "it can be used once.",
    )
    .argument("<name>", "the device's name, unique in the federation; with --count what names begin with")
    .option("--federation <folder>", "federation folder with the authority key", "federation")
    .option("--out <file>", "where to write the join file (default: <name>.join.json)")
    .option("--days <number>", "how long the device's certificate is valid", integerIn(1, 3650), 365)
    .option("--token-days <number>", "until when it can be used (default: 30 days)", integerIn(1, 3650))
    .option("--count <number>", "make so many: <name>-1, <name>-2, …", integerIn(1, MAX_COUNT))
    .option("--site <site>", "where the devices are")
    .option(
      "--site-limit <number>",
      "most devices of that site, enrolled or in one sum; signed, so that no coordinator can exceed it",
      integerIn(1, MAX_COUNT),
    )
    .option("--label <key=value>", "what runs may choose devices by; may be given again", collect)
    .action((name: string, options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const names = namesOf(name, options);
        const files: string[] = [];
        for (const one of names) files.push(await makeToken(one, options));
        const [file] = files;
        const of = options.count === undefined ? { file, site: name } : { files, names };
        const said = files.length === 1 ? `${file}` : `${files.length} join files, ${file} and on`;
        output.result(of, `wrote ${said}. At the site: tutti join ${file} --data <folder>`);
      }),
    );
}

function namesOf(name: string, { count, out, site, siteLimit }: Options): string[] {
  if (siteLimit !== undefined && !site)
    throw new Fault("bad-input", "--site-limit", { expected: "--site beside it", got: "none" });
  if (count === undefined) return [name];
  if (out !== undefined)
    throw new Fault("bad-input", "--out", { expected: "no --count beside it", got: `--count ${count}` });
  const digits = String(count).length;
  return Array.from({ length: count }, (_, at) => `${name}-${String(at + 1).padStart(digits, "0")}`);
}

async function makeToken(name: string, options: Options): Promise<string> {
  const { federation: folder, days, tokenDays, site, siteLimit, label: labels, out } = options;
  const file = out ?? `${name}.join.json`;
  const join = await createToken({
    folder,
    name,
    days,
    random: platformRandom(),
    nowMs: Date.now(),
    ...(tokenDays !== undefined && { tokenDays }),
    ...(site && { site, ...(siteLimit !== undefined && { siteLimit }) }),
    ...(labels && { labels }),
  });
  // It holds a secret until it is used, and must not replace another site's.
  await writeNew(file, joinFileText(join));
  return file;
}

function collect(said: string, before: Labels = {}): Labels {
  const [, key, value] = /^([A-Za-z0-9._-]{1,64})=(.{1,200})$/.exec(said) ?? [];
  if (key === undefined || value === undefined) throw new InvalidArgumentError("Expected key=value.");
  return { ...before, [key]: value };
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
