import fc from "fast-check";
import { type Case, type Ended, full, holdsFor, sparse } from "../../libs/secagg/test/exact.ts";
import type { Claim } from "../claim.ts";

const DEFAULT_CASES = 300;
/** A session of more than 100 devices costs as much as a hundred small ones. */
const PER_SPARSE = 100;

export const claim: Claim = {
  name: "secagg/exact",
  target:
    "for random members, losses in every stage, words and lengths: the sum of masked vectors opens to the " +
    "plain sum bit for bit, or, below the threshold, nothing is revealed " +
    `(${DEFAULT_CASES} cases; CASES=10000 in the environment for more, SEED to repeat)`,
  async run(report) {
    const cases = Number(process.env.CASES ?? DEFAULT_CASES);
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
    report(`seed ${seed}, ${cases} cases`);
    const small = await held(full, { cases, seed });
    report(`full graph: ${JSON.stringify(small)}`);
    const large = await held(sparse, { cases: Math.max(6, Math.ceil(cases / PER_SPARSE)), seed });
    report(`sparse graph: ${JSON.stringify(large)}`);
    const broken = [small.broken, large.broken].filter((it) => it !== null);
    // A property that never meets one of its two ends says nothing about it.
    const both = Math.min(small.opened, small.failed) > 0 && large.opened > 0;
    return { figures: { seed, full: small, sparse: large }, holds: broken.length === 0 && both };
  },
};

type Held = Record<Ended, number> & {
  /** The smallest case found that breaks the property. */
  readonly broken: string | null;
};

async function held(
  arbitrary: fc.Arbitrary<Case>,
  { cases, seed }: { cases: number; seed: number },
): Promise<Held> {
  const ended = { opened: 0, failed: 0 };
  const property = fc.asyncProperty(arbitrary, async (one) => void ended[await holdsFor(one)]++);
  const checked = await fc.check(property, { numRuns: cases, seed });
  return { ...ended, broken: checked.failed ? (fc.defaultReportMessage(checked) ?? "unknown") : null };
}
