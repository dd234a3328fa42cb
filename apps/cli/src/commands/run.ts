import { resolve } from "node:path";
import { systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import type { RunStatus } from "@tutti/wire/admin";
import { Command } from "commander";
import { type Context, withContext } from "../action.ts";
import { follow } from "../follow.ts";
import { type AdminLink, asOwner, recordsAfter, startPrepared, withHistory } from "../owner.ts";
import { prepareRun } from "../prepare.ts";
import { findRun, findRunToStop, foundRunning, listedRuns, mustBeFinished } from "../runs.ts";
import { briefValue, deviceLine, goneLine, roundLine, statusLine, statusValue } from "../status.ts";

type Options = { federation: string; watch?: boolean; base?: string };

export function runCommand(): Command {
  return new Command("run")
    .description("Start, watch, stop or resume a run.")
    .addCommand(startCommand())
    .addCommand(statusCommand())
    .addCommand(stopCommand())
    .addCommand(resumeCommand());
}

function startCommand(): Command {
  return new Command("start")
    .description("Sign a run file as its owner, upload its base model and start it.")
    .argument("<run-file>", "YAML or JSON")
    .option("--federation <folder>", "federation folder with the owner key", "federation")
    .option("--base <file>", "base model to use instead of the run file's")
    .option("--no-watch", "return as soon as the run is started")
    .action((file: string, options: Options, command: Command) =>
      withContext(command, async (context) => {
        const prepared = await prepareRun(file, options.base ? { base: resolve(options.base) } : {});
        await asOwner(options.federation, async (admin, owner) => {
          const { output } = context;
          const { name } = prepared.plan;
          const before = await listedRuns(admin);
          const run = await startPrepared(admin, owner, prepared);
          const { itself, others } = foundRunning(before, { run, name });
          output.say(`run ${name} is ${run.slice(0, 12)}`);
          if (others.length > 0)
            output.say(`another run of this name is in progress: ${others.join(", ")}; name each by its id`);
          const how = itself ? `was already running, round ${itself.round}` : "started";
          if (options.watch === false) return output.result({ run, wasRunning: itself !== undefined }, how);
          if (itself) output.say(how);
          await watchRun(admin, run, context);
        });
      }),
    );
}

function statusCommand(): Command {
  return new Command("status")
    .description("Say how a run is doing; without a name, how all are, and the newest in full.")
    .argument("[run]", "its name (of several, the one in progress), or the beginning of its id")
    .option("--federation <folder>", "federation folder with the owner key", "federation")
    .option("--watch", "follow it until it is over")
    .action((said: string | undefined, options: Options, command: Command) =>
      withContext(command, (context) =>
        asOwner(options.federation, async (admin) => {
          const runs = await listedRuns(admin);
          const { run } = findRun(runs, said);
          if (options.watch) return watchRun(admin, run, context);
          const others = said === undefined ? runs.filter((other) => other.run !== run) : [];
          const newest = await admin.status({ $typeName: "tutti.v1.RunRequest", run });
          const status = await withHistory(admin, newest);
          showStatus(status, others, context);
        }),
      ),
    );
}

function stopCommand(): Command {
  return new Command("stop")
    .description("Stop a run; the round in progress is dropped and reveals nothing.")
    .argument(
      "[run]",
      "its name, or the beginning of its id; without it, the one in progress, if there is one",
    )
    .option("--federation <folder>", "federation folder with the owner key", "federation")
    .action((said: string | undefined, options: Options, command: Command) =>
      withContext(command, ({ output }) =>
        asOwner(options.federation, async (admin) => {
          const { run } = findRunToStop(await listedRuns(admin), said);
          const status = await admin.stopRun({ $typeName: "tutti.v1.RunRequest", run });
          output.result(statusValue(status), statusLine(status));
        }),
      ),
    );
}

function resumeCommand(): Command {
  return new Command("resume")
    .description("Let a run that failed or was stopped go on, with as many attempts at its round again.")
    .argument("[run]", "its name, or the beginning of its id; without it, the newest")
    .option("--federation <folder>", "federation folder with the owner key", "federation")
    .option("--no-watch", "return as soon as it goes on")
    .action((said: string | undefined, options: Options, command: Command) =>
      withContext(command, (context) =>
        asOwner(options.federation, async (admin) => {
          const { run, state } = findRun(await listedRuns(admin), said);
          const status = await admin.resumeRun({ $typeName: "tutti.v1.RunRequest", run });
          const { output } = context;
          const wasRunning = state === "running";
          const how = `${wasRunning ? "was running already" : "goes on"}: ${statusLine(status)}`;
          if (options.watch === false) return output.result({ ...statusValue(status), wasRunning }, how);
          output.say(how);
          await watchRun(admin, run, context);
        }),
      ),
    );
}

function showStatus(status: RunStatus, others: readonly RunStatus[], { output }: Context): void {
  for (const other of others) output.say(statusLine(other));
  if (status.earlier > 0) output.say(goneLine(status.earlier));
  for (const record of status.history) output.say(roundLine(record, status.rounds));
  if (status.state === "running") for (const device of status.devices) output.say(deviceLine(device));
  const value = statusValue(status);
  output.result(others.length > 0 ? { ...value, others: others.map(briefValue) } : value, statusLine(status));
}

/** Prints a line for each finished round until the run is over; a run that failed is a Fault. */
async function watchRun(admin: AdminLink, run: string, { output, signal }: Context): Promise<void> {
  // When it comes back need not be secret, only another moment than for others.
  const patience = { clock: systemClock(), jitter: seededRandom(Date.now()) };
  const { say } = output;
  let shown = 0;
  let last: RunStatus | undefined;
  let [waiting, before] = ["", ""];
  for await (const status of follow(admin, run, { patience, signal, say })) {
    for (const record of recordsAfter(shown, status)) output.say(roundLine(record, status.rounds));
    const failed = status.state === "running" ? status.reason : "";
    if (failed !== before && failed !== "") output.say(`tried again after ${failed}`);
    before = failed;
    const now = waitingLine(status);
    if (now !== waiting && now !== "") output.say(now);
    waiting = now;
    shown = status.earlier + status.history.length;
    last = status;
  }
  if (signal.aborted)
    throw new Fault("cancelled", "stopped watching; the run goes on", { todo: "`tutti run stop` ends it" });
  const whole = await withHistory(admin, mustBeFinished(run, last));
  output.result(statusValue(whole), statusLine(whole));
}

/** While a round waits for sites: how many are here, and why others do not count. */
function waitingLine({ phase, round, attempt, devices, waiting }: RunStatus): string {
  if (phase !== "gathering") return "";
  const said = `round ${round}, attempt ${attempt + 1}: waiting for sites`;
  if (waiting) return `${said}: ${waiting}`;
  if (round > 0 && attempt === 0) return "";
  const here = devices.filter(({ connected }) => connected).map(({ device }) => device);
  return `${said}; here: ${here.join(", ") || "none yet"}`;
}
