import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Listed, Mutation, Outcome } from "./scenario.ts";

const HERE = new URL(".", import.meta.url);
const ROOT = fileURLToPath(new URL("../../", HERE));
/** A process that says nothing more for this long is ended. */
const LONGEST_MS = 60_000;

/**
 * Runs attacks of one file in one process, whose sources a mutation's patches change; outcomes by name.
 * A process that fails before an attack has an outcome makes it a `broken` one, with what it wrote.
 */
export async function runInChild(
  attacks: readonly Listed[],
  mutation?: Mutation,
): Promise<ReadonlyMap<string, Outcome>> {
  const names = attacks.map(({ name }) => name);
  const args = { file: attacks[0]!.file, names };
  const hook = new URL("mutate/register.mjs", HERE).href;
  const program = fileURLToPath(new URL("child.ts", HERE));
  const child = spawn(
    process.execPath,
    ["--import", hook, "--import", "tsx", program, JSON.stringify(args)],
    {
      cwd: ROOT,
      env: { ...process.env, TUTTI_TEST_PATCHES: JSON.stringify(mutation?.patches ?? []) },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let [said, complained] = ["", ""];
  let timer: NodeJS.Timeout | undefined;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => child.kill("SIGKILL"), LONGEST_MS);
  };
  alive();
  child.stdout.on("data", (bytes) => {
    said += bytes;
    alive();
  });
  child.stderr.on("data", (bytes) => {
    complained += bytes;
  });
  const code = await new Promise((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  const outcomes = new Map(names.map((name): [string, Outcome] => [name, gone(code, complained)]));
  for (const line of said.split("\n").filter((line) => line.startsWith("{"))) {
    const { name, outcome } = JSON.parse(line) as { name: string; outcome: Outcome };
    outcomes.set(name, outcome);
  }
  return outcomes;
}

function gone(code: unknown, complained: string): Outcome {
  return { kind: "broken", why: `the process ended with ${code}: ${complained.slice(-2000)}` };
}
