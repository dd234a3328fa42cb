import { serveFederation } from "@tutti/coordinator/serve";
import { Command } from "commander";
import { integerIn, withContext } from "../action.ts";

export function serveCommand(): Command {
  return new Command("serve")
    .description("Run the coordinator of a federation until Ctrl-C.")
    .argument("[folder]", "federation folder made by `tutti init`", "federation")
    .option(
      "--port <number>",
      "listen here instead of where tutti.json says; 0 picks a free port",
      integerIn(0, 65_535),
    )
    .action((folder: string, options: { port?: number }, command: Command) =>
      withContext(command, async ({ output, signal }) => {
        const server = await serveFederation({ folder, ...options });
        const reload = () => void server.reloadTls();
        process.on("SIGHUP", reload);
        try {
          const at = { address: server.address, federation: server.name };
          output.result(at, `federation ${server.name} listens on ${server.address} (Ctrl-C stops it)`);
          await new Promise<void>((resolve) =>
            signal.addEventListener("abort", () => resolve(), { once: true }),
          );
        } finally {
          process.off("SIGHUP", reload);
          await server.close();
        }
      }),
    );
}
