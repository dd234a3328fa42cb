import { Command, CommanderError } from "commander";
import { adapterCommand } from "./commands/adapter/adapter.ts";
import { auditCommand } from "./commands/audit/audit.ts";
import { authorityCommand } from "./commands/authority/authority.ts";
import { backupCommand } from "./commands/backup.ts";
import { benchCommand } from "./commands/bench.ts";
import { devicesCommand } from "./commands/devices.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { graphCommand } from "./commands/graph/graph.ts";
import { initCommand } from "./commands/init.ts";
import { joinCommand } from "./commands/join.ts";
import { privacyCommand } from "./commands/privacy/privacy.ts";
import { releasesCommand } from "./commands/releases.ts";
import { restoreCommand } from "./commands/restore.ts";
import { revokeCommand } from "./commands/revoke.ts";
import { runCommand } from "./commands/run.ts";
import { serveCommand } from "./commands/serve.ts";
import { tlsCommand } from "./commands/tls/tls.ts";
import { tokenCommand } from "./commands/token.ts";
import { verifyCommand } from "./commands/verify.ts";
import { verifyRoundCommand } from "./commands/verify-round.ts";
import { EXIT_CODES, reportFailure } from "./output.ts";
import { endsWithItsReader, PIPE_CLOSED } from "./pipe.ts";

const EXIT_HELP = `
Exit codes: 0 done; ${Object.entries(EXIT_CODES)
  .map(([code, number]) => `${number} ${code}`)
  .join("; ")}; ${PIPE_CLOSED} whoever read the output went.`;

function program(): Command {
  const root = new Command("tutti")
    .description("Federated LoRA training of ONNX models under secure aggregation.")
    .version("0.1.0")
    .option(
      "--json",
      "print the result as one JSON object on the last line of stdout; a failure is one on that of stderr",
    )
    .exitOverride()
    .showHelpAfterError("(add --help for what this command takes)")
    .configureHelp({ showGlobalOptions: true })
    .addHelpText("before", refuseUnknown)
    .addHelpText("after", EXIT_HELP);
  for (const command of [
    initCommand(),
    serveCommand(),
    tokenCommand(),
    joinCommand(),
    revokeCommand(),
    backupCommand(),
    restoreCommand(),
    devicesCommand(),
    authorityCommand(),
    tlsCommand(),
    runCommand(),
    releasesCommand(),
    verifyCommand(),
    verifyRoundCommand(),
    adapterCommand(),
    graphCommand(),
    privacyCommand(),
    benchCommand(),
    doctorCommand(),
    auditCommand(),
  ]) {
    root.addCommand(inheriting(command, root));
  }
  return root;
}

/** Commands made apart do not inherit how errors end the process; neither do theirs. */
function inheriting(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent);
  if (command.commands.length > 0) command.addHelpText("before", refuseUnknown);
  for (const child of command.commands) inheriting(child, command);
  return command;
}

/** Help on a command that is not there is no help: it would be that of the one above, with exit code 0. */
function refuseUnknown({ command }: { command: Command }): string {
  const [first] = command.args;
  const isKnown = command.commands.some((one) => one.name() === first || one.aliases().includes(first ?? ""));
  if (first === undefined || first.startsWith("-") || first === "help" || isKnown) return "";
  const known = command.commands.map((one) => one.name()).join(", ");
  return command.error(`error: unknown command '${first}'; there are: ${known}`);
}

/** Runs one command line; returns the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  try {
    await program().parseAsync([...argv]);
    return readerGone() ? PIPE_CLOSED : 0;
  } catch (error) {
    if (readerGone()) return PIPE_CLOSED;
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_CODES["bad-input"];
    return reportFailure(error, argv.includes("--json"));
  }
}

const readerGone = endsWithItsReader();
process.exitCode = await main(process.argv);
