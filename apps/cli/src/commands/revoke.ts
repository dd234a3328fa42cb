import { RevokeRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { Command } from "commander";
import { withContext } from "../action.ts";
import { asOwner } from "../owner.ts";

export function revokeCommand(): Command {
  return new Command("revoke")
    .description(
      "Take no request of a site any more, from now on. What it gave to past releases stays in them; other " +
        "sites are not told, and know its certificate as good until it expires.",
    )
    .argument("<site>", "the site's name")
    .option("--federation <folder>", "federation folder with the owner's key", "federation")
    .action((site: string, options: { federation: string }, command: Command) =>
      withContext(command, async ({ output }) => {
        const request = create(RevokeRequestSchema, { device: site });
        await asOwner(options.federation, (admin) => admin.revoke(request));
        output.result({ site }, `${site} is revoked`);
      }),
    );
}
