import { equalBytes } from "@tutti/foundation/bytes";
import type { PreparedRun } from "tutti/prepare";
import type { Claim } from "../claim.ts";
import { adapterFrom } from "../support/round/expected.ts";
import { readTruth } from "../support/round/files.ts";
import type { House } from "../support/round/house.ts";
import { journalOf } from "../support/round/journal.ts";
import { STAGES } from "../support/round/link.ts";
import { smallRun } from "../support/round/recipe.ts";
import type { Death } from "../support/round/site.ts";
import { withHouse } from "../support/round/workplace.ts";

const SITES = ["site-a", "site-b", "site-c", "site-d"] as const;
const ROWS = { train: 64, heldOut: 32 };
/** A site killed at any of these leaves three, which is enough. */
const DEATHS: readonly Death[] = [
  { stage: "training", when: "after" },
  ...STAGES.flatMap((stage): Death[] => [
    { stage, when: "before" },
    { stage, when: "after" },
  ]),
];

type Survived = {
  readonly finished: boolean;
  readonly attempts: number;
  readonly survivors: number;
  readonly exact: boolean;
};

type Stopped = {
  readonly reason: string;
  readonly releases: number;
  readonly revealsSent: number;
  readonly revealsTaken: number;
};

export const claim: Claim = {
  name: "round/drop",
  target:
    "a site killed at any stage leaves a sum that is bit-equal to the survivors' own; below the threshold nothing",
  async run(report) {
    const rows = new Map(SITES.map((site) => [site as string, ROWS]));
    return await withHouse({ sites: rows }, async (house) => {
      report(`${SITES.length} sites, one coordinator: every one a process`);
      const survived: Survived[] = [];
      for (const [at, death] of DEATHS.entries()) {
        const one = await loseOne(house, { death, seed: at });
        report(`killed ${death.when} ${death.stage}: ${JSON.stringify(one)}`);
        survived.push(one);
      }
      const stopped: Stopped[] = [];
      for (const { name, change, dead, death } of TOO_FEW) {
        const one = await loseTooMany(house, { name, change, dead, death });
        report(`${name}: ${JSON.stringify(one)}`);
        stopped.push(one);
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
    dead: ["site-c"],
    death: { stage: "upload", when: "before" },
  },
] as const;

async function loseOne(house: House, { death, seed }: { death: Death; seed: number }): Promise<Survived> {
  const prepared = smallRun({ name: `drop-${death.stage}-${death.when}`, seed });
  await house.armSite("site-d", death);
  const run = await house.begin(prepared);
  const { state, history } = await house.over(run);
  await house.revive();
  return {
    finished: state === "finished",
    attempts: journalOf(house, run).attempts,
    survivors: history[0]?.survivors ?? 0,
    exact: await isExact(house, prepared, run),
  };
}

/** A vector is in the sum exactly when its upload was acknowledged before its site died. */
function isWhole({ finished, attempts, survivors, exact }: Survived, { stage, when }: Death): boolean {
  const [died, upload] = [STAGES.indexOf(stage as "upload"), STAGES.indexOf("upload")];
  const isIn = died > upload || (died === upload && when === "after");
  return finished && attempts === 1 && exact && survivors === (isIn ? 4 : 3);
}

/** Whether the first release is, byte for byte, what the words of the sites in it make when added in the clear. */
async function isExact(house: House, prepared: PreparedRun, run: string): Promise<boolean> {
  const [first, trained] = await house.releases(run);
  if (!first || !trained) return false;
  const words = await Promise.all(
    journalOf(house, run).uploads.map(async (site) => (await readTruth(house.siteFolder(site), run)).words),
  );
  const expected = adapterFrom(prepared, { run, manifest: first.digest, words });
  return words.length === trained.release.cohorts[0] && equalBytes(expected, trained.adapter);
}

async function loseTooMany(
  house: House,
  { name, change, dead, death }: { name: string; change: object; dead: readonly string[]; death: Death },
): Promise<Stopped> {
  let revealsSent = 0;
  house.onSite = (_site, said) => {
    if (said.kind === "sends" && said.stage === "reveal") revealsSent++;
  };
  for (const site of dead) await house.armSite(site, death);
  const run = await house.begin(
    smallRun({ name: name.replace(/\W+/g, "-"), seed: 1, attempts: 1, ...change }),
  );
  const { state, reason } = await house.over(run);
  const releases = (await house.releases(run)).length - 1;
  await house.revive();
  return {
    reason: state === "failed" ? reason : `not failed: ${state}`,
    releases,
    revealsSent,
    revealsTaken: journalOf(house, run).reveals,
  };
}

function isSilent({ reason, releases, revealsSent, revealsTaken }: Stopped): boolean {
  return (
    /below threshold|of at least/.test(reason) && releases === 0 && revealsSent === 0 && revealsTaken === 0
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
