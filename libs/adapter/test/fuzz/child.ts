import { seededRandom } from "@tutti/foundation/random";
import type { Report } from "../../../graph/test/fuzz/batch.ts";
import { guarded } from "../../../graph/test/fuzz/guards.ts";
import { models } from "./corpus.ts";
import { blindMutant, editedModel, type Mutant, quietMutant } from "./mutate.ts";
import { type Fate, fateOf } from "./walk.ts";

/**
 * Damages models and walks them, in a process of its own: `child.ts <first seed> <count>`. One JSON line per
 * defect as it is met, one at the end. What hangs or runs out of memory is told by the seed that began last.
 */
type Defect = {
  readonly seed: number;
  readonly model: string;
  readonly how: string;
  readonly error: string;
};

const [first, count] = process.argv.slice(2).map(Number) as [number, number];
const corpus = models();
const look = await guarded();

function mutantOf(seed: number): Mutant & { model: string } {
  const random = seededRandom(`fuzz ${seed}`);
  // Small ones more often: they are as good at breaking and cost less.
  const [one, other] = [random.below(corpus.length), random.below(corpus.length)];
  const [a, b] = [corpus[one]!, corpus[other]!];
  const { name, bytes } = a.bytes.length < b.bytes.length ? a : b;
  const change = [blindMutant, editedModel, quietMutant, quietMutant, quietMutant][random.below(5)]!;
  return { ...change(bytes, random), model: name };
}

const fates: Partial<Record<Fate, number>> = {};
for (let seed = first; seed < first + count; seed++) {
  const { bytes, how, model } = mutantOf(seed);
  process.stdout.write(`${JSON.stringify({ begins: seed, model, how })}\n`);
  try {
    const fate = await fateOf(bytes);
    look();
    fates[fate] = (fates[fate] ?? 0) + 1;
  } catch (error) {
    const told = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stdout.write(
      `${JSON.stringify({ defect: { seed, model, how, error: told } satisfies Defect })}\n`,
    );
  }
}
const residentBytes = process.resourceUsage().maxRSS * 1024;
process.stdout.write(
  `${JSON.stringify({ report: { cases: count, fates, residentBytes } satisfies Report })}\n`,
);
