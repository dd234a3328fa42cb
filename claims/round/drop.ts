import type { Claim } from "../claim.ts";
import { STAGES } from "../support/round/link.ts";
import {
  isSilent,
  isWhole,
  loseOne,
  loseTooMany,
  type Stopped,
  type Survived,
  type TooFew,
} from "../support/round/lose.ts";
import type { Death } from "../support/round/site.ts";
import { withHouse } from "../support/round/workplace.ts";

const SITES = ["site-a", "site-b", "site-c", "site-d"];
const ROWS = { train: 64, heldOut: 32 };
/** A site killed at any of these leaves three, which is enough. */
const DEATHS: readonly Death[] = [
  { stage: "training", when: "after" },
  ...STAGES.flatMap((stage): Death[] => [
    { stage, when: "before" },
    { stage, when: "after" },
  ]),
];

export const claim: Claim = {
  name: "round/drop",
  target:
    "a site killed at any stage leaves the exact sum of the others; below the threshold nothing is revealed",
  async run(report) {
    const rows = new Map(SITES.map((site) => [site, ROWS]));
    return await withHouse({ sites: rows }, async (house) => {
      report(`${SITES.length} sites, one coordinator: every one a process`);
      const survived: Survived[] = [];
      for (const [at, death] of DEATHS.entries()) {
        const one = await loseOne(house, { death, seed: at });
        report(`killed ${death.when} ${death.stage}: ${JSON.stringify(one)}`);
        survived.push(one);
        await house.revive();
      }
      const stopped: Stopped[] = [];
      for (const few of TOO_FEW) {
        const one = await loseTooMany(house, few);
        report(`${few.name}: ${JSON.stringify(one)}`);
        stopped.push(one);
        await house.revive();
      }
      const held = survived.map((one, at) => isWhole(one, DEATHS[at]!));
      const figures = {
        deaths: DEATHS.length,
        completedInTheSameAttempt: survived.filter(({ finished, attempts }) => finished && attempts === 1)
          .length,
        exactSums: survived.filter(({ exact }) => exact).length,
        belowThreshold: stopped.length,
        revealsBelowThreshold: sum(
          stopped.map(({ revealsSent, revealsTaken }) => revealsSent + revealsTaken),
        ),
        releasesBelowThreshold: sum(stopped.map(({ releases }) => releases)),
        reasons: stopped.map(({ reason }) => reason),
      };
      return { figures, holds: held.every(Boolean) && stopped.every(isSilent) };
    });
  },
};

/** Rounds that cannot be finished: two of four gone after their vectors are in, and one of three before. */
const TOO_FEW = [
  {
    name: "two of four killed after their upload",
    change: {},
    dead: ["site-c", "site-d"],
    death: { stage: "upload", when: "after" },
  },
  {
    name: "one of three killed before its upload, with a floor of three",
    change: { cohort: { min: 3, max: 3 } },
    away: ["site-d"],
    dead: ["site-c"],
    death: { stage: "upload", when: "before" },
  },
] as const satisfies readonly TooFew[];

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
