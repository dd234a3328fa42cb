// Scenarios in a process of their own: node [--import …/register.mjs] --import tsx child.ts '["name", …]'.
// One line of JSON for each. Whatever it started it ends; and it ends itself when it takes too long.
import { endWorld } from "./harness/lab.ts";
import { SCENARIOS } from "./rows.ts";
import type { Outcome } from "./scenario.ts";

/** Of one scenario: an attack that hangs is one that does not work, and no refusal either. */
const LONGEST_MS = 20_000;

const names = JSON.parse(process.argv[2] ?? "[]") as string[];
for (const name of names) {
  const scenario = SCENARIOS.find((one) => one.name === name);
  if (!scenario) throw new Error(`no scenario ${name}`);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Outcome>((resolve) => {
    timer = setTimeout(() => resolve({ kind: "broken", why: `over ${LONGEST_MS} ms` }), LONGEST_MS);
  });
  const outcome = await Promise.race([scenario.run(), late]);
  clearTimeout(timer);
  process.stdout.write(`${JSON.stringify({ name, outcome })}\n`);
}
await endWorld();
process.exit(0);
