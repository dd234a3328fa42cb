import { initFederation } from "@tutti/coordinator/folder/init";
import { platformRandom } from "@tutti/foundation/random";
import { Command } from "commander";
import { integerIn, withContext } from "../action.ts";

type Options = { name: string; host: string; port: number };

export function initCommand(): Command {
  return new Command("init")
    .description("Make a federation folder: authority key, owner key, coordinator key, TLS, config.")
    .argument("[folder]", "where to make it", "federation")
    .option("--name <name>", "the federation's name", "federation")
    .option("--host <host>", "host name that sites dial", "localhost")
    .option("--port <number>", "port the coordinator listens on", integerIn(1, 65_535), 7443)
    .action((folder: string, options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const { name, host, port } = options;
        await initFederation({ folder, name, host, port, random: platformRandom(), nowMs: Date.now() });
        output.result(
          { folder, name, address: `${host}:${port}` },
          `made ${folder}/. Keep ${folder}/authority/ offline: whoever has it can enrol devices.\n` +
            `Next: tutti serve ${folder}   and   tutti token <site> --federation ${folder}`,
        );
      }),
    );
}
