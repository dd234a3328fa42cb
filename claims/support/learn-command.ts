import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/**
 * Runs a command to its end and gives its lines of stdout; stderr's last lines are in the error where it
 * fails. It gets no terminal, so it prints what a log would hold.
 */
export async function runToEnd(
  command: string,
  args: readonly string[],
  cwd: string,
): Promise<readonly string[]> {
  const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  const [lines, said]: [string[], string[]] = [[], []];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  createInterface({ input: child.stderr }).on("line", (line) => said.push(line));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code === 0) return lines;
  throw new Error(`${command} ${args.join(" ")} ended with code ${code}:\n${said.slice(-10).join("\n")}`);
}
