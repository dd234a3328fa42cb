import { Command } from "commander";
import { withContext } from "../../action.ts";
import { headsOf, readLog, type Whose } from "./log.ts";

type Options = Whose & { readonly against: readonly string[] };

const HELP = `
Any line that was changed, removed, added or moved is found and named. That a log was cut off at its end, or
written anew as a whole by someone who can, is found only where somebody remembers more: a device keeps its
log's head in a file beside it, a store in a row of its own, and every device writes down the head that the
coordinator tells it in each greeting. Hold the coordinator's log to what devices remember:
  $ tutti audit verify --federation federation --against /backup/ward-7 --against /backup/ward-9
What was cut off since the last greeting of any device is not found.`;

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
    .addHelpText("after", HELP)
    .action((options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const heads = (await Promise.all(options.against.map(headsOf))).flat();
        const { of, head, torn } = await readLog(options, heads);
        const held = heads.length > 0 ? `, and fits ${heads.length} heads that devices were told` : "";
        const half = torn > 0 ? `. Its last line is torn (${torn} bytes): the next start cuts it off` : "";
        output.result(
          { of, entries: head.count, head: head.hash, remembered: heads.length, tornBytes: torn },
          `the log of ${of} is whole: ${head.count} entries, head ${head.hash.slice(0, 16)}${held}${half}`,
        );
      }),
    );
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
