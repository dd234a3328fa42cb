import { createToken, TOKEN_DAYS } from "@tutti/coordinator/folder/token";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { Command, InvalidArgumentError } from "commander";
import { integerIn, withContext } from "../action.ts";
import { writeAll } from "../write.ts";

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
    .option("--days <number>", "days the device's certificate is valid", integerIn(1, 3650), 365)
    .option(
      "--token-days <number>",
      `days the join file can be used (default: ${TOKEN_DAYS}, at most --days)`,
      integerIn(1, 3650),
    )
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
        const texts = new Map<string, string>();
        for (const one of names) texts.set(fileOf(one, options), await makeToken(one, options));
        // They hold secrets until they are used, and must not replace others'.
        const todo =
          options.count === undefined ? TAKEN : "Send those that are there, or choose another name";
        await writeAll(texts, { mode: 0o600, todo });
        const files = [...texts.keys()];
        const [file] = files;
        const of = options.count === undefined ? { file, name } : { files, names };
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

const TAKEN = "Send that one, or name another with --out";

function fileOf(name: string, { out }: Options): string {
  return out ?? `${name}.join.json`;
}

/** A join file's text. */
async function makeToken(name: string, options: Options): Promise<string> {
  const { federation: folder, days, tokenDays, site, siteLimit, label: labels } = options;
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
  return joinFileText(join);
}

function collect(said: string, before: Labels = {}): Labels {
  const [, key, value] = /^([A-Za-z0-9._-]{1,64})=(.{1,200})$/.exec(said) ?? [];
  if (key === undefined || value === undefined) throw new InvalidArgumentError("Expected key=value.");
  return { ...before, [key]: value };
}
