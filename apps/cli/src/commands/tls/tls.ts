import { X509Certificate } from "node:crypto";
import { readConfig } from "@tutti/coordinator/folder/layout";
import { newTls } from "@tutti/coordinator/folder/tls";
import { writeTls } from "@tutti/coordinator/folder/tls-files";
import { hex } from "@tutti/foundation/bytes";
import { platformRandom } from "@tutti/foundation/random";
import { Command } from "commander";
import { withContext } from "../../action.ts";

export function tlsCommand(): Command {
  const renew = new Command("renew")
    .description(
      "Make a new key and certificate for the coordinator's port. A coordinator that runs takes them up in " +
        "a second or two, or at once on SIGHUP, and cuts no connection; devices hear of it from it.",
    )
    .argument("[folder]", "federation folder, at the coordinator's machine", "federation")
    .action((folder: string, _options: object, command: Command) =>
      withContext(command, async ({ output }) => {
        const { name, host } = await readConfig(folder);
        const tls = await newTls({ name, host, nowMs: Date.now() });
        await writeTls(folder, tls, `${hex(platformRandom().bytes(6))}.part`);
        const until = new Date(new X509Certificate(tls.certificate).validTo).toISOString();
        const made = `made a new TLS key and certificate in ${folder}/coordinator/`;
        output.result({ folder, until }, `${made}, valid until ${until.slice(0, 10)}`);
      }),
    );
  return new Command("tls").description("The certificate of the coordinator's port.").addCommand(renew);
}
