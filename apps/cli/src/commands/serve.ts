import { addressOf } from "@tutti/coordinator/folder/config";
import { readConfig } from "@tutti/coordinator/folder/layout";
import type { Role } from "@tutti/coordinator/lead/keeper";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { Fault } from "@tutti/foundation/fault";
import { Command } from "commander";
import { integerIn, withContext } from "../action.ts";
import type { Output } from "../output.ts";

/** Longer than any orderly stop takes; whoever supervises us should wait a little longer still. */
const STOP_MS = 20_000;

const HELP = `
Everything else is in the folder's tutti.json (docs/operating.md): store, metrics and probes, log, limits.
Events go to stderr, one JSON object a line, or readable on a terminal.

SIGHUP makes it read its TLS certificate anew, without dropping a connection.

Ctrl-C or SIGTERM stops it in order: it is no longer ready, takes on nothing new, tells devices when to come
back, lets transactions under way finish, gives up the lease, and exits with 0. A round in progress goes on
after the next start, or at the coordinator that takes over. A second signal ends it at once; that loses
nothing that was acknowledged either.`;

export function serveCommand(): Command {
  return new Command("serve")
    .description("Run the coordinator of a federation until Ctrl-C.")
    .argument("[folder]", "federation folder made by `tutti init`", "federation")
    .option(
      "--port <number>",
      "listen here instead of where tutti.json says; 0 picks a free port",
      integerIn(0, 65_535),
    )
    .addHelpText("after", HELP)
    .action((folder: string, options: { port?: number }, command: Command) =>
      withContext(command, async ({ output, signal }) => {
        const server = await serveFederation({ folder, ...options });
        const reload = () => void server.reloadTls();
        process.on("SIGHUP", reload);
        const quiet = tellRole(server, output, await dialledElsewhere(folder, server, options));
        try {
          await new Promise<void>((resolve) => {
            if (signal.aborted) resolve();
            else signal.addEventListener("abort", () => resolve(), { once: true });
          });
        } finally {
          process.off("SIGHUP", reload);
          // What it becomes while it stops is no news.
          quiet();
          await inTime(server.close());
        }
      }),
    );
}

type Told = Pick<Server, "name" | "address" | "operationsPort" | "onRole">;

/** What it serves and in which role, now and at each change of it: the last line is how it is. */
export function tellRole(server: Told, output: Pick<Output, "result">, dialled?: string): () => void {
  const { name, address, operationsPort } = server;
  let told = "";
  return server.onRole((role) => {
    const now = sentence(server, role, dialled);
    if (now === told) return;
    told = now;
    output.result({ address, dialled, federation: name, role: role.kind, operationsPort }, now);
  });
}

/** Where devices, join files and `tutti doctor` go, if --port says that this listens elsewhere. */
async function dialledElsewhere(
  folder: string,
  { address }: Told,
  { port }: { port?: number },
): Promise<string | undefined> {
  const dialled = port === undefined ? address : addressOf(await readConfig(folder));
  return dialled === address ? undefined : dialled;
}

function sentence({ name, address, operationsPort }: Told, role: Role, dialled?: string): string {
  const here = role.kind === "leader" ? "listens" : "stands by";
  const other = role.kind === "standby" && role.leader ? `, ${role.leader} leads` : "";
  const elsewhere = dialled ? `, though tutti.json has devices dial ${dialled}` : "";
  const port = operationsPort === undefined ? "" : `; metrics and probes on port ${operationsPort}`;
  return `federation ${name} ${here} on ${address}${elsewhere}${other}${port} (Ctrl-C stops it)`;
}

/** A store that hangs must not keep a process that was told to stop. */
async function inTime(closing: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const got = "something that does not end";
      reject(new Fault("deadline", "stopping", { expected: `an end within ${STOP_MS / 1000} s`, got }));
    }, STOP_MS);
  });
  try {
    await Promise.race([closing, late]);
  } catch (error) {
    // What hangs may also hold the process open.
    setTimeout(() => process.exit(), 1_000).unref();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
