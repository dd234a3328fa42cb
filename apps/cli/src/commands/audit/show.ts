import type { Entry } from "@tutti/audit/entry";
import { Command } from "commander";
import { integerIn, withContext } from "../../action.ts";
import { missingOf, readLog, type Whose } from "./log.ts";

type Options = Whose & {
  readonly actor?: string;
  readonly what?: string;
  readonly run?: string;
  readonly since?: string;
  readonly last: number;
};

const MAX_SHOWN = 100_000;

export function showCommand(): Command {
  return new Command("show")
    .description("Print entries of an audit log, the newest last, once its chain was found whole.")
    .option("--federation <folder>", "the coordinator's log, of this federation folder (default)")
    .option("--device <folder>", "a device's own log instead")
    .option("--actor <name>", "only what this device, owner or coordinator did")
    .option("--what <kind>", "only entries of this kind, or whose kind begins so: device, run.started")
    .option("--run <digits>", "only entries of this run, by its first digits")
    .option("--since <time>", "only entries from this moment on, as in the log: 2026-03-01")
    .option("--last <number>", "at most so many, the newest", integerIn(1, MAX_SHOWN), 50)
    .action((options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const shown: Entry[] = [];
        const takes = (entry: Entry) => {
          if (!wanted(entry, options)) return;
          shown.push(entry);
          if (shown.length > options.last) shown.shift();
        };
        const read = await readLog(options, { takes });
        const { of, head, begins } = read;
        const said = `${shown.length} of ${head.count} entries of ${of}`;
        const missing = missingOf(read);
        output.result(
          { of, entries: shown.map(({ previous, ...entry }) => entry), all: head.count, begins },
          [...shown.map(line), missing ? `${said}; ${missing}` : said].join("\n"),
        );
      }),
    );
}

function wanted({ actor, what, subject, at, detail }: Entry, options: Options): boolean {
  const { run } = options;
  return (
    (options.actor === undefined || actor === options.actor) &&
    (options.what === undefined || what === options.what || what.startsWith(`${options.what}.`)) &&
    (options.since === undefined || at >= options.since) &&
    (run === undefined || subject.startsWith(run) || `${detail.run ?? ""}`.startsWith(run))
  );
}

function line({ seq, at, actor, what, subject, detail }: Entry): string {
  const facts = Object.entries(detail).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return [String(seq).padStart(5), at, actor, what, JSON.stringify(subject), ...facts].join("  ");
}
