import type { Entry } from "@tutti/audit/entry";
import { Command, InvalidArgumentError } from "commander";
import { integerIn, withContext } from "../../action.ts";
import { isKind, mustBeKind } from "./kinds.ts";
import { missingOf, readLog, type Whose } from "./log.ts";

type Options = Whose & {
  readonly actor?: string;
  readonly what?: string;
  readonly run?: string;
  readonly since?: string;
  readonly last: number;
};

const MAX_SHOWN = 100_000;
/** Far more than there are. */
const MAX_KINDS = 200;

export function showCommand(): Command {
  return new Command("show")
    .description("Print entries of an audit log, the newest last, once its chain was found whole.")
    .option("--federation <folder>", "the coordinator's log, of this federation folder (default)")
    .option("--device <folder>", "a device's own log instead")
    .option("--actor <name>", "only what this device, owner or coordinator did")
    .option("--what <kind>", "only entries of this kind, or whose kind begins so: device, run.started")
    .option("--run <digits>", "only entries of this run, by its first digits")
    .option("--since <time>", "only entries from this moment on, as in the log: 2026-03-01", moment)
    .option("--last <number>", "at most so many, the newest", integerIn(1, MAX_SHOWN), 50)
    .action((options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const { what, device } = options;
        const shown: Entry[] = [];
        const kinds = new Set<string>();
        const takes = (entry: Entry) => {
          if (kinds.size < MAX_KINDS) kinds.add(entry.what);
          if (!wanted(entry, options)) return;
          shown.push(entry);
          if (shown.length > options.last) shown.shift();
        };
        const read = await readLog(options, { takes });
        if (what !== undefined) mustBeKind(what, device === undefined ? "coordinator" : "device", kinds);
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
    (options.what === undefined || isKind(what, options.what)) &&
    (options.since === undefined || at >= options.since) &&
    (run === undefined || subject.startsWith(run) || `${detail.run ?? ""}`.startsWith(run))
  );
}

const MOMENT = /^\d{4}-\d{2}(-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?Z?)?)?$/;

/** Written out as the log writes it, in UTC, so that texts compare as moments do. */
function moment(text: string): string {
  const utc = text.includes("T") && !text.endsWith("Z") ? `${text}Z` : text;
  const date = new Date(utc);
  const whole = Number.isNaN(date.getTime()) ? "" : date.toISOString();
  // A 31st of February is read as another day.
  if (MOMENT.test(text) && whole.startsWith(text.slice(0, 10))) return whole;
  throw new InvalidArgumentError("Expected a date, or a moment in UTC: 2026-03-01, 2026-03-01T13:45:00Z.");
}

function line({ seq, at, actor, what, subject, detail }: Entry): string {
  const facts = Object.entries(detail).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return [String(seq).padStart(5), at, actor, what, JSON.stringify(subject), ...facts].join("  ");
}
