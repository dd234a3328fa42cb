// Attacks of one file in a process of their own:
// node [--import …/register.mjs] --import tsx child.ts '{ "file": "roster", "names": ["…"] }'.
// One line of JSON for each. Whatever it started it ends; and it ends itself when it takes too long.
import { endAll, type Outcome, type Scenario } from "./scenario.ts";

/** Of one attack: one that hangs does not work, and is no refusal either. */
const LONGEST_MS = 45_000;

const { file, names } = JSON.parse(process.argv[2] ?? "{}") as { file: string; names: string[] };
const lists = (await import(`./rows/${file}.ts`)) as Record<string, readonly Scenario[]>;
for (const name of names) {
  const scenario = Object.values(lists)
    .flat()
    .find((one) => one.name === name);
  if (!scenario) throw new Error(`no attack ${name} in ${file}`);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Outcome>((resolve) => {
    timer = setTimeout(() => resolve({ kind: "broken", why: `over ${LONGEST_MS} ms` }), LONGEST_MS);
  });
  const outcome = await Promise.race([scenario.run(), late]);
  clearTimeout(timer);
  process.stdout.write(`${JSON.stringify({ name, outcome })}\n`);
}
await endAll();
process.exit(0);
