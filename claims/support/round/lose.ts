import { equalBytes } from "@tutti/foundation/bytes";
import type { RunFileInput } from "@tutti/plan/plan";
import type { PreparedRun } from "tutti/prepare";
import { adapterFrom } from "./expected.ts";
import { readTruth } from "./files.ts";
import type { House } from "./house.ts";
import { journalOf } from "./journal.ts";
import { STAGES } from "./link.ts";
import { smallRun } from "./recipe.ts";
import type { Death } from "./site.ts";

const VICTIM = "site-d";

export type Survived = {
  /** Whether the victim is really dead: a claim about deaths must not hold without them. */
  readonly died: boolean;
  readonly finished: boolean;
  readonly attempts: number;
  readonly survivors: number;
  readonly exact: boolean;
};

export type Stopped = {
  readonly died: boolean;
  readonly reason: string;
  readonly releases: number;
  readonly revealsSent: number;
  readonly revealsTaken: number;
};

export type TooFew = {
  readonly name: string;
  readonly change: Omit<Partial<RunFileInput>, "seed">;
  /** Away before the run begins, so that those who are left are in its cohort. */
  readonly away?: readonly string[];
  readonly dead: readonly string[];
  readonly death: Death;
};

/** A run in which site-d dies once. */
export async function loseOne(
  house: House,
  { death, seed }: { death: Death; seed: number },
): Promise<Survived> {
  const prepared = smallRun({ name: `drop-${death.stage}-${death.when}`, seed });
  await house.armSite(VICTIM, death);
  const run = await house.begin(prepared);
  const { state, history } = await house.over(run);
  return {
    died: areDead(house, [VICTIM]),
    finished: state === "finished",
    attempts: journalOf(house, run).attempts,
    survivors: history[0]?.survivors ?? 0,
    exact: await isExact(house, prepared, run),
  };
}

/** A vector is in the sum exactly when its upload was acknowledged before its site died. */
export function isWhole(met: Survived, { stage, when }: Death): boolean {
  const { died: killed, finished, attempts, survivors, exact } = met;
  const [died, upload] = [STAGES.indexOf(stage as "upload"), STAGES.indexOf("upload")];
  const isIn = died > upload || (died === upload && when === "after");
  return killed && finished && attempts === 1 && exact && survivors === (isIn ? 4 : 3);
}

/** Whether the release is, byte for byte, what the words of the sites in it make, added in the clear. */
async function isExact(house: House, prepared: PreparedRun, run: string): Promise<boolean> {
  const [first, trained] = await house.releases(run);
  if (!first || !trained) return false;
  const words = await Promise.all(
    journalOf(house, run).uploads.map(async (site) => (await readTruth(house.siteFolder(site), run)).words),
  );
  const expected = adapterFrom(prepared, { run, manifest: first.digest, words });
  return words.length === trained.release.cohorts[0] && equalBytes(expected, trained.adapter);
}

/** A run that cannot be finished, in one attempt. */
export async function loseTooMany(
  house: House,
  { name, change, away = [], dead, death }: TooFew,
): Promise<Stopped> {
  let revealsSent = 0;
  house.onSite = (_site, said) => {
    if (said.kind === "sends" && said.stage === "reveal") revealsSent++;
  };
  for (const site of away) await house.sites.get(site)?.kill();
  for (const site of dead) await house.armSite(site, death);
  const run = await house.begin(
    smallRun({ name: name.replace(/\W+/g, "-"), seed: 1, attempts: 1, ...change }),
  );
  const { state, reason } = await house.over(run);
  const releases = (await house.releases(run)).length - 1;
  return {
    died: areDead(house, dead),
    reason: state === "failed" ? reason : `not failed: ${state}`,
    releases,
    revealsSent,
    revealsTaken: journalOf(house, run).reveals,
  };
}

export function isSilent({ died, reason, releases, revealsSent, revealsTaken }: Stopped): boolean {
  const named = /below threshold|of at least/.test(reason);
  return died && named && releases === 0 && revealsSent === 0 && revealsTaken === 0;
}

function areDead(house: House, sites: readonly string[]): boolean {
  return sites.every((site) => house.sites.get(site)?.over === true);
}
