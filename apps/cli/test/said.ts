import { Command } from "commander";
import { vi } from "vitest";
import { privacyCommand } from "../src/commands/privacy/privacy.ts";

/** Runs `tutti privacy …` in this process; what it wrote to stdout. */
export async function privacy(...args: string[]): Promise<string> {
  let said = "";
  const spies = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, "write").mockImplementation((chunk) => {
      if (stream === process.stdout) said += String(chunk);
      return true;
    }),
  );
  const root = new Command("tutti").option("--json").exitOverride();
  const command = privacyCommand();
  for (const one of [command, ...command.commands]) one.copyInheritedSettings(root);
  try {
    await root.addCommand(command).parseAsync(["privacy", ...args], { from: "user" });
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return said;
}
