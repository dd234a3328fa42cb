import { Command } from "commander";
import { exportCommand } from "./export.ts";
import { showCommand } from "./show.ts";
import { verifyCommand } from "./verify.ts";

export function auditCommand(): Command {
  return new Command("audit")
    .description("Read and check the log of what was asked, decided and sent.")
    .addCommand(verifyCommand())
    .addCommand(showCommand())
    .addCommand(exportCommand());
}
