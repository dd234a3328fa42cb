import { epsilonOfRho } from "@tutti/privacy/accountant";
import type { Release } from "@tutti/release/manifest";
import type { Group } from "@tutti/secagg/group";
import type { CohortTranscript, PrivacySpent } from "@tutti/wire/transcript";
import { costOfSum } from "../price.ts";
import { clipOf } from "../privacy.ts";
import type { RoundSpec } from "../spec.ts";
import { must, mustEqual } from "./check.ts";
import type { Asked } from "./papers.ts";

/** Logarithms and roots differ between engines in their last bits, and nobody's privacy hangs on those. */
const RELATIVE = 1e-9;

/** What a sum cost each device in it follows from the plan, the roster and who was in it. */
export function checkSpent(
  { privacy, survivors }: CohortTranscript,
  { group, spec, where }: { group: Group; spec: Pick<RoundSpec, "plan" | "task">; where: string },
): void {
  const own = costOfSum(spec, group, survivors.length);
  const same = own && privacy ? own.mode === privacy.mode && near(own, privacy) : own === privacy;
  must(`${where}, privacy`, same, { expected: told(own), got: told(privacy) });
}

function near(a: PrivacySpent, b: PrivacySpent): boolean {
  return close(a.noiseMultiplier, b.noiseMultiplier) && close(a.rho, b.rho);
}

function close(a: number, b: number): boolean {
  return Math.abs(a - b) <= RELATIVE * Math.abs(a);
}

function told(spent: PrivacySpent | undefined): string {
  return spent ? `${spent.mode}, noise ${spent.noiseMultiplier}, ρ ${spent.rho}` : "no claim";
}

/**
 * The manifest's claim, of the whole run so far: the plan's noise, and at least what the parent claims with
 * the dearest sum of this round, since a device was in one of them. It may be more: an attempt that failed
 * has been paid for too.
 */
export function checkClaim(cohorts: readonly CohortTranscript[], { privacy }: Release, asked: Asked): void {
  const { plan, parent } = asked;
  const noise = ({ mode, noiseMultiplier, delta }: NonNullable<typeof plan.privacy>) =>
    `${mode}, noise ${noiseMultiplier}, δ ${delta}`;
  const claimed = privacy ? noise({ ...privacy, slots: 0 }) : "no claim";
  mustEqual("manifest, privacy", plan.privacy ? noise(plan.privacy) : "no claim", claimed);
  if (!privacy) return;
  const first = parent.release.version === 0;
  must("parent, privacy", first === (parent.release.privacy === null), {
    expected: first ? "no claim before the first round" : "a claim",
    got: parent.release.privacy ? "one" : "none",
  });
  const before = parent.release.privacy?.rho ?? 0;
  const least = before + Math.max(...cohorts.map((cohort) => cohort.privacy?.rho ?? 0));
  must("manifest, privacy: ρ", privacy.rho >= least * (1 - RELATIVE), {
    expected: `at least ${least}`,
    got: `${privacy.rho}`,
  });
  const epsilon = epsilonOfRho(privacy.rho, privacy.delta);
  must("manifest, privacy: ε", close(epsilon, privacy.epsilon), {
    expected: `${epsilon}, of its ρ`,
    got: `${privacy.epsilon}`,
  });
  mustEqual("manifest, privacy: clip norm", clipOf(plan, asked.task), privacy.clipNorm);
}
