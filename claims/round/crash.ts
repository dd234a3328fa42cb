import { equalBytes } from "@tutti/foundation/bytes";
import type { Claim } from "../claim.ts";
import type { House } from "../support/round/house.ts";
import { journalOf } from "../support/round/journal.ts";
import { smallRun } from "../support/round/recipe.ts";
import { takeTurns } from "../support/round/turns.ts";
import { withHouse } from "../support/round/workplace.ts";

const SITES = ["site-a", "site-b", "site-c", "site-d"] as const;
const ROWS = { train: 64, heldOut: 32 };
const SEED = 7;
/**
 * Where the coordinator dies: around the commit that holds an upload, or as soon as the site has its answer.
 */
const MOMENTS = ["before", "committed", "acknowledged"] as const;
type Moment = (typeof MOMENTS)[number];

type Resumed = {
  readonly finished: boolean;
  readonly attempts: number;
  readonly failures: readonly string[];
  readonly survivors: number;
  /** Uploads that were durable when the coordinator died. */
  readonly durable: number;
  /** Each vector was counted once, through both lives of the coordinator. */
  readonly once: boolean;
  /** The adapter released is the one of the undisturbed run, byte for byte. */
  readonly same: boolean;
  /** From the death to the commit that ends the round, with the start of a new process in it. */
  readonly resumeMs: number;
};

export const claim: Claim = {
  name: "round/crash",
  target:
    "a coordinator killed at any upload goes on with the same attempt and releases what an undisturbed one does",
  async run(report) {
    const rows = new Map(SITES.map((site) => [site as string, ROWS]));
    return await withHouse({ sites: rows, inTurn: true }, async (house) => {
      const undisturbed = await undisturbedAdapter(house);
      report(`undisturbed: ${undisturbed.length} bytes of adapter`);
      const cases = MOMENTS.flatMap((when) =>
        SITES.slice(1).map((_, at) => ({ when, uploads: at + 1, undisturbed })),
      );
      const resumed: Resumed[] = [];
      for (const one of cases) {
        const met = await killed(house, one);
        report(`killed ${one.when}, upload ${one.uploads} of ${SITES.length}: ${JSON.stringify(met)}`);
        resumed.push(met);
      }
      const whole = resumed.filter((met, at) => isWhole(met, cases[at]!));
      const times = resumed.map(({ resumeMs }) => resumeMs).sort((a, b) => a - b);
      const figures = {
        kills: cases.length,
        sameAttempt: resumed.filter(({ finished, attempts }) => finished && attempts === 1).length,
        bitEqual: resumed.filter(({ same }) => same).length,
        countedOnce: resumed.filter(({ once }) => once).length,
        resumeMsMedian: times[times.length >> 1] ?? 0,
        resumeMsWorst: times.at(-1) ?? 0,
      };
      return { figures, holds: whole.length === cases.length };
    });
  },
};

function isWhole(met: Resumed, { when, uploads }: { when: Moment; uploads: number }): boolean {
  const { finished, attempts, survivors, durable, once, same } = met;
  // Where a death comes before the commit, the vector in hand is not durable yet.
  const expected = when === "before" ? uploads - 1 : uploads;
  return finished && attempts === 1 && survivors === SITES.length && durable === expected && once && same;
}

async function undisturbedAdapter(house: House): Promise<Uint8Array> {
  takeTurns(house);
  const run = await house.begin(smallRun({ name: "undisturbed", seed: SEED }));
  await house.over(run);
  const [, trained] = await house.releases(run);
  return trained?.adapter ?? new Uint8Array();
}

/**
 * The same recipe under another name, so that the same words are summed; the coordinator dies once on the
 * way.
 */
async function killed(
  house: House,
  { when, uploads, undisturbed }: { when: Moment; uploads: number; undisturbed: Uint8Array },
): Promise<Resumed> {
  const first = house.coordinator;
  const turns = takeTurns(house);
  if (when === "acknowledged") turns.onAcknowledged(uploads, () => void first.kill());
  else await house.armCoordinator({ uploads, when });
  const run = await house.begin(smallRun({ name: `killed-${when}-${uploads}`, seed: SEED }));
  await first.ended;
  const diedMs = performance.now();
  const durable = journalOf(house, run).uploads.length;
  await house.serve();
  const { state, history } = await house.over(run);
  const { uploads: all, attempts, failures, endedMs } = journalOf(house, run);
  const [, trained] = await house.releases(run);
  return {
    finished: state === "finished",
    attempts,
    failures,
    survivors: history[0]?.survivors ?? 0,
    durable,
    once: all.length === SITES.length && new Set(all).size === SITES.length,
    same: trained !== undefined && equalBytes(trained.adapter, undisturbed),
    resumeMs: Math.round(endedMs - diedMs),
  };
}
