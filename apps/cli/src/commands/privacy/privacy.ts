import { Command } from "commander";
import { planCommand } from "./plan.ts";
import { spentCommand } from "./spent.ts";

export function privacyCommand(): Command {
  return new Command("privacy")
    .description("Choose the noise of a run, and see what it costs and promises.")
    .addCommand(planCommand())
    .addCommand(spentCommand());
}
