import { Command } from "commander";
import { withContext } from "../../action.ts";
import { headsOf, missingOf, type Read, readLog, type Whose } from "./log.ts";

type Options = Whose & { readonly against: readonly string[]; readonly older: readonly string[] };

const HELP = `
Any line that was changed, removed, added or moved is found and named. That a log was cut off at its end, or
written anew as a whole by someone who can, is found only where somebody remembers more: a device keeps its
log's head in a file beside it, a store in a row of its own, and every device writes down the head that the
coordinator tells it in each greeting. Hold the coordinator's log to what devices remember:
  $ tutti audit verify --federation federation --against /backup/ward-7 --against /backup/ward-9
What was cut off since the last greeting of any device is not found.

Where tutti.json removes old entries (retention.auditEntries) the log begins with a later one; an entry of it
has to say so, or it is refused. Older parts that \`tutti audit export\` wrote are checked with it:
  $ tutti audit verify --federation federation --older 2026-01.jsonl --older 2026-02.jsonl`;

export function verifyCommand(): Command {
  return new Command("verify")
    .description("Check an audit log: no line changed, removed, added or moved. Changes nothing.")
    .option("--federation <folder>", "the coordinator's log, of this federation folder (default)")
    .option("--device <folder>", "a device's own log instead")
    .option(
      "--against <folder>",
      "hold the coordinator's log to a device's memory of it; repeat",
      collect,
      [],
    )
    .option("--older <file>", "with an older part of the coordinator's log, exported; repeat", collect, [])
    .addHelpText("after", HELP)
    .action((options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const heads = (await Promise.all(options.against.map(headsOf))).flat();
        const read = await readLog(options, { remembered: heads, older: options.older });
        const { of, head, begins, removed, unreachable, torn } = read;
        output.result(
          {
            of,
            entries: head.count,
            head: head.hash,
            begins,
            removed,
            remembered: heads.length,
            unreachable,
            tornBytes: torn,
          },
          sentence(read, heads.length),
        );
      }),
    );
}

function sentence(read: Read, heads: number): string {
  const { of, head, begins, unreachable, torn } = read;
  const from = begins > 0 ? ` from entry ${begins} on` : "";
  const parts = [`the log of ${of} is whole${from}: ${head.count} entries, head ${head.hash.slice(0, 16)}`];
  if (heads > unreachable) parts.push(`, and fits ${heads - unreachable} heads that devices were told`);
  const missing = missingOf(read);
  if (missing) parts.push(`; ${missing}`);
  if (unreachable > 0) parts.push(`; ${unreachable} heads that devices were told are of before`);
  if (torn > 0) parts.push(`. Its last line is torn (${torn} bytes): the next start cuts it off`);
  return parts.join("");
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
