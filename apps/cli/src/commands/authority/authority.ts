import { Command } from "commander";
import { signCommand } from "./sign.ts";

export function authorityCommand(): Command {
  return new Command("authority")
    .description("What whoever holds the authority's key does, at the machine where it is.")
    .addCommand(signCommand());
}
