import { equalBytes, fromHex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { type Plan, parsePlan } from "@tutti/plan/plan";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import { openEnvelope, type Trust } from "@tutti/release/dsse";
import { accept } from "@tutti/release/lineage";
import { type OpenedRelease, openRelease } from "@tutti/release/manifest";
import { PLAN } from "@tutti/release/plan";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type Invite, type Task, Task_Kind } from "@tutti/wire/round";
import { type Policy, permit } from "./policy.ts";

/** An invitation that this device may answer: everything in it was signed by whom it must be, and fits. */
export type Accepted = {
  readonly plan: Plan;
  readonly task: Task;
  readonly attempt: number;
  /** The release the round starts from. */
  readonly parent: OpenedRelease;
  readonly manifest: SignedEnvelope;
};

/** What the device goes by: the pinned authority, its own clock, its own policy. */
export type Rules = { readonly trust: Trust; readonly policy: Policy };

/** `newest`: the newest release accepted of the run; `before`: what was accepted last, of whichever run. */
type Remembered = { readonly newest: OpenedRelease | null; readonly before?: Accepted | undefined };

/**
 * The door of docs/protocol.md, An invitation. @throws
 * Fault("refused" | "bad-message" | "bad-input") naming the first thing wrong.
 */
export function checkInvite(invite: Invite, rules: Rules & Remembered): Accepted {
  const { task, attempt } = invite;
  const { plan, run } = checkPlan(present("plan", invite.plan), rules);
  const manifest = present("parent", invite.parent);
  const work = present("task", task);
  must("invitation, run", work.run === run, { expected: run, got: work.run });
  checkKind(plan, work);
  checkClip(plan, work);
  const parent = openRelease(manifest, rules.trust);
  checkParent(plan, work, parent);
  accept(rules.newest, parent);
  return { plan, task: work, attempt, parent, manifest };
}

/** A plan signed by an owner whom the policy approves, within what it allows. */
function checkPlan(
  envelope: SignedEnvelope,
  { trust, policy, before }: Rules & Remembered,
): { plan: Plan; run: string } {
  const { payload, signer } = openEnvelope(envelope, { ...trust, payloadType: PLAN, role: "owner" });
  const run = sha256Hex(payload);
  // A run is named by the hash of its plan, so these are the bytes that were parsed then.
  const plan = before?.task.run === run ? before.plan : parsePlan(payload);
  permit(policy, plan, signer);
  return { plan, run };
}

/**
 * A published release of a run that this device works for. @throws Fault("refused") as `checkInvite` does.
 */
export function checkRelease(
  manifest: SignedEnvelope,
  known: { trust: Trust; run: string; plan: Plan; newest: OpenedRelease | null },
): OpenedRelease {
  const opened = openRelease(manifest, known.trust);
  const { release } = opened;
  must("release, run", release.run === known.run, { expected: known.run, got: release.run });
  checkContent("release", known.plan, opened);
  accept(known.newest, opened);
  return opened;
}

function checkKind({ rounds }: Plan, { round, kind }: Task): void {
  const trains = kind === Task_Kind.TRAIN && round < rounds;
  const judges = kind === Task_Kind.EVALUATE && round === rounds;
  const expected = `training before round ${rounds}, evaluation at it`;
  must("invitation, task", trains || judges, { expected, got: `kind ${Task_Kind[kind]} in round ${round}` });
}

/** A norm that adapts stays within the plan's own bound; otherwise the task has none to say. */
function checkClip({ privacy, update }: Plan, { clipNorm }: Task): void {
  const fine = privacy?.adaptiveClip ? clipNorm > 0 && clipNorm <= update.clipNorm : clipNorm === 0;
  const expected = privacy?.adaptiveClip ? `above 0, at most ${update.clipNorm}` : "none of the task's own";
  must("invitation, clip norm", fine, { expected, got: `${clipNorm}` });
}

/** Each round that trains makes one release, so version and round count together from 0. */
function checkParent(plan: Plan, task: Task, parent: OpenedRelease): void {
  const { release, digest } = parent;
  const named = equalBytes(fromHex(digest), task.parent);
  must("invitation, parent", named, { expected: "the release that the task names", got: digest });
  must("invitation, parent's run", release.run === task.run, { expected: task.run, got: release.run });
  must("invitation, parent's version", release.version === task.round, {
    expected: `${task.round}`,
    got: `${release.version}`,
  });
  checkContent("invitation", plan, parent);
}

/** What any release of a plan's run has from its plan; `where` it came: an invitation, or on its own. */
function checkContent(where: "invitation" | "release", plan: Plan, { release }: OpenedRelease): void {
  const { base, adapter, version, method, rank, alpha, secureAggregation, privacy } = release;
  must(`${where}, base model`, base.sha256 === plan.base.sha256, {
    expected: plan.base.sha256,
    got: base.sha256,
  });
  const first = adapter.sha256 === plan.initial.sha256 && adapter.bytes === plan.initial.bytes;
  must(`${where}, first adapter`, version > 0 || first, {
    expected: plan.initial.sha256,
    got: adapter.sha256,
  });
  const own = `${plan.adapter.method}, rank ${plan.adapter.rank}, alpha ${plan.adapter.alpha}`;
  const told = `${method}, rank ${rank}, alpha ${alpha}`;
  must(`${where}, adapter`, own === told, { expected: own, got: told });
  const secure = plan.secureAggregation.enabled;
  must(`${where}, aggregation`, secure === secureAggregation, {
    expected: `secure ${secure}`,
    got: `secure ${secureAggregation}`,
  });
  const noise = ({ mode, noiseMultiplier, delta }: NonNullable<Plan["privacy"]>) =>
    `${mode} noise of ${noiseMultiplier}, told at δ ${delta}`;
  const asked = plan.privacy && version > 0 ? noise(plan.privacy) : "no claim of privacy";
  const claimed = privacy ? noise({ ...privacy, slots: 0 }) : "no claim of privacy";
  must(`${where}, privacy`, asked === claimed, { expected: asked, got: claimed });
  if (privacy) {
    const epsilon = epsilonOfRho(privacy.rho, privacy.delta);
    const same = Math.abs(privacy.epsilon - epsilon) <= 1e-9 * epsilon;
    must(`${where}, ε of its ρ`, same, { expected: `${epsilon}`, got: `${privacy.epsilon}` });
  }
}

function must(what: string, fine: boolean, detail: { expected: string; got: string }): void {
  demand(fine, () => new Fault("refused", what, detail));
}

function present<T>(what: string, value: T | undefined): T {
  demand(
    value !== undefined,
    () => new Fault("bad-message", "invitation", { expected: `a ${what}`, got: "none" }),
  );
  return value;
}
