import { access, stat } from "node:fs/promises";
import { join as path, resolve } from "node:path";
import type { DeviceEvent } from "@tutti/client-sdk/events";
import { csvData } from "@tutti/client-sdk/node/csv";
import { Device } from "@tutti/client-sdk/node/device";
import { ENGINE_NAMES, type EngineName } from "@tutti/client-sdk/node/engine";
import { readConfig } from "@tutti/client-sdk/node/folder";
import { join, spendJoinFile } from "@tutti/client-sdk/node/join";
import { systemClock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { parseJoinFile } from "@tutti/identity/join";
import { CertificateBodySchema } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import { Command, Option } from "commander";
import { type Context, withContext } from "../action.ts";
import type { Output } from "../output.ts";
import { readOrSay } from "../prepare.ts";
import { States } from "../states.ts";

type Options = { folder: string; data: string; once?: boolean; engine: EngineName };

export function joinCommand(): Command {
  return new Command("join")
    .description("Join a federation with a join file, then train whenever it asks, until Ctrl-C.")
    .argument("<join-file>", "made by `tutti token`")
    .option("--folder <folder>", "where this site's key, policy and models live", "site")
    .option("--data <folder>", "folder with the site's CSV files; nothing outside it is ever read", "data")
    .option("--once", "leave after one run")
    .addOption(new Option("--engine <name>", "what trains").choices(ENGINE_NAMES).default("tfjs"))
    .addHelpText(
      "after",
      "\nOnce joined, the join file's secret is removed from it. A folder that has joined before " +
        "goes on with its key; the join file is then not needed again.",
    )
    .action((file: string, options: Options, command: Command) =>
      withContext(command, (context) => joinAndParticipate(file, options, context)),
    );
}

async function joinAndParticipate(
  file: string,
  options: Options,
  { output, signal }: Context,
): Promise<void> {
  const { folder, data, engine } = options;
  const hadJoined = await exists(path(folder, "device.json"));
  if (hadJoined) await mustBeSame(file, folder);
  else {
    const joinFile = new TextDecoder().decode(await readOrSay(file, "join file"));
    parseJoinFile(joinFile);
    await mustBeFolder(data);
    const waits = (because: string) => output.say(because);
    await join({ joinFile, folder, random: platformRandom(), dataFolder: resolve(data), waits });
  }
  // Also when joining was cut short right before: the file is then as good as a second key to this name.
  await spendJoinFile(file, folder).catch((error) => {
    if (asFault(error).code === "storage")
      output.say(`${asFault(error).message}. Delete ${file} yourself: whoever has it can pose as this site`);
  });
  const states = new States(systemClock());
  const device = await Device.open({
    folder,
    data: csvData(),
    engine,
    events: (event) => tell(event.kind === "state" ? states.lineOf(event) : lineOf(event), output),
  });
  try {
    const how = hadJoined
      ? `${folder}/ has joined before; ${device.name} goes on with its key`
      : `${device.name} has joined`;
    output.result({ joined: device.name, folder }, `${how}. Its policy is ${folder}/policy.json`);
    await device.participate({ signal, once: options.once === true });
  } finally {
    await device.close();
  }
}

/** A folder is one site's for good: a join file for another name is not quietly passed over. */
async function mustBeSame(file: string, folder: string): Promise<void> {
  if (!(await exists(file))) return;
  const { token } = parseJoinFile(new TextDecoder().decode(await readOrSay(file, "join file")));
  const { name } = decode(CertificateBodySchema, token.grant.body, 4096);
  const own = await readConfig(folder);
  if (own.name === name) return;
  throw new Fault("conflict", `${folder}/`, {
    expected: `the join file of ${own.name}`,
    got: `${file}, made for ${name}`,
    todo: "Name another folder with --folder",
  });
}

/** Before the token is used up: a site without its data folder would refuse every round. */
async function mustBeFolder(data: string): Promise<void> {
  const found = await stat(data).catch(() => null);
  if (found?.isDirectory()) return;
  throw new Fault("not-found", `data folder ${data}`, {
    expected: "a folder",
    got: found ? "something else" : "nothing there",
    todo: "Name it with --data",
  });
}

function tell(line: string | null, output: Output): void {
  if (line !== null) output.say(line);
}

/** What a site's operator sees of an event; numbers about the site's rows stay on this screen. */
function lineOf(event: Exclude<DeviceEvent, { kind: "state" }>): string | null {
  switch (event.kind) {
    case "evaluated":
      return `round ${event.round}: ${event.rows} own held-out rows, accuracy ${event.accuracy.toFixed(4)}`;
    case "trained":
      return `round ${event.round}: ${trained(event)}`;
    case "released":
      return `now serving version ${event.version} (${event.digest.slice(0, 12)})`;
    case "renewed":
      return `certificate renewed until ${new Date(event.untilS * 1000).toISOString().slice(0, 10)}`;
    case "refused":
      return `refused: ${event.because.message}`;
    case "excused":
      return `round ${event.round}: not needed${event.keeps ? " yet, may join a later one" : " this time"}`;
    case "runOver":
      return `run ${event.run.slice(0, 12)} ${event.outcome}${event.reason ? `: ${event.reason}` : ""}`;
    case "idle":
      return `nothing to do: ${event.because}`;
    case "waits":
      return event.because;
    case "activity":
      return null;
  }
}

function trained({ rows, engine, loss }: Extract<DeviceEvent, { kind: "trained" }>): string {
  return `trained on ${rows} rows by ${engine}, loss ${loss.toFixed(4)}`;
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
