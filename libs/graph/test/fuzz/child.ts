import { seededRandom } from "@tutti/foundation/random";
import { guarded } from "./guards.ts";
import { drawnNode, told } from "./nodes.ts";
import { fateOf } from "./walk.ts";

/**
 * Draws nodes and walks them, in a process of its own: `child.ts <first seed> <count>`. What it prints is
 * read by batch.ts: one JSON line as a case begins, one per defect, one at the end.
 */
const [first, count] = process.argv.slice(2).map(Number) as [number, number];
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

const fates: Record<string, number> = {};
const look = await guarded();
for (let seed = first; seed < first + count; seed++) {
  const graph = drawnNode(seededRandom(`node ${seed}`));
  const how = told(graph);
  say({ begins: seed, how });
  try {
    const fate = await fateOf(graph);
    look();
    fates[fate] = (fates[fate] ?? 0) + 1;
  } catch (error) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    say({ defect: { seed, how, error: stack } });
  }
}
say({ report: { cases: count, fates, residentBytes: process.resourceUsage().maxRSS * 1024 } });
