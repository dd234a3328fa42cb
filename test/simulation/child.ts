// Seeds in a process of their own: node [--import …/register.mjs] --import tsx child.ts '{ … }'.
// One line of JSON for each verdict; with `read` the transcript instead, as it comes.
import type { Range } from "./search.ts";
import { simulate } from "./seed.ts";

const { from, to, step, stopAtFirst, read } = JSON.parse(process.argv[2] ?? "{}") as Range;
const reader = read ? (line: string) => void process.stdout.write(`${line}\n`) : null;
for (let seed = from; seed <= to; seed += step) {
  const verdict = await simulate(seed, reader);
  process.stdout.write(`${JSON.stringify(verdict)}\n`);
  if (stopAtFirst && verdict.violation !== null) break;
}
