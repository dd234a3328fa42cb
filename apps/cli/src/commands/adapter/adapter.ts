import { Command } from "commander";
import { attachCommand, detachCommand } from "./attach.ts";
import { convertCommand } from "./convert.ts";
import { inspectCommand } from "./inspect.ts";
import { mergeCommand, unmergeCommand } from "./merge.ts";

export function adapterCommand(): Command {
  return new Command("adapter")
    .description("Look at adapters, convert them, and merge or attach them to their base models.")
    .addCommand(inspectCommand())
    .addCommand(convertCommand())
    .addCommand(mergeCommand())
    .addCommand(unmergeCommand())
    .addCommand(attachCommand())
    .addCommand(detachCommand());
}
