import type { Claim } from "../claim.ts";
import {
  type Case,
  isResumed,
  killed,
  MOMENTS,
  type Resumed,
  undisturbedAdapter,
} from "../support/round/resume.ts";
import { withHouse } from "../support/round/workplace.ts";

const SITES = ["site-a", "site-b", "site-c", "site-d"];
const ROWS = { train: 64, heldOut: 32 };
/** In one more case it stays away for so long that devices wait as long as they ever do between two tries. */
const LONG_MS = 20_000;

export const claim: Claim = {
  name: "round/crash",
  target: "a coordinator killed at any upload goes on with the same attempt, and releases the same bytes",
  async run(report) {
    const rows = new Map(SITES.map((site) => [site, ROWS]));
    return await withHouse({ sites: rows, inTurn: true }, async (house) => {
      const undisturbed = await undisturbedAdapter(house);
      report(`undisturbed: ${undisturbed.length} bytes of adapter`);
      const quick = MOMENTS.flatMap((when) => SITES.map((_, at) => ({ when, uploads: at + 1, awayMs: 0 })));
      const cases: Case[] = [...quick, { when: "acknowledged", uploads: 2, awayMs: LONG_MS }];
      const resumed: Resumed[] = [];
      for (const one of cases) {
        const met = await killed(house, { ...one, undisturbed });
        const away = one.awayMs > 0 ? `, away for ${one.awayMs / 1000} s` : "";
        report(`killed ${one.when}, upload ${one.uploads} of ${SITES.length}${away}: ${JSON.stringify(met)}`);
        resumed.push(met);
      }
      const whole = resumed.filter((met, at) => isResumed(met, { ...cases[at]!, sites: SITES.length }));
      const figures = {
        kills: cases.length,
        sameAttempt: resumed.filter(({ finished, attempts }) => finished && attempts === 1).length,
        bitEqual: resumed.filter(({ same }) => same).length,
        countedOnce: resumed.filter(({ once }) => once).length,
        servingAgainMs: spread(resumed.map(({ backMs }) => backMs)),
        roundEndedMs: spread(resumed.map(({ resumeMs }) => resumeMs)),
        longestAwayMs: LONG_MS,
      };
      return { figures, holds: whole.length === cases.length };
    });
  },
};

function spread(times: readonly number[]): { median: number; worst: number } {
  const sorted = [...times].sort((a, b) => a - b);
  return { median: sorted[sorted.length >> 1] ?? 0, worst: sorted.at(-1) ?? 0 };
}
