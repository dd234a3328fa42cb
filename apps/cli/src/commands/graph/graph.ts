import { Command } from "commander";
import { checkCommand } from "./check.ts";
import { inspectCommand } from "./inspect.ts";
import { trainStepCommand } from "./train-step.ts";

export function graphCommand(): Command {
  return new Command("graph")
    .description("Look at ONNX models, derive their training steps, and check the gradients.")
    .addCommand(inspectCommand())
    .addCommand(trainStepCommand())
    .addCommand(checkCommand());
}
