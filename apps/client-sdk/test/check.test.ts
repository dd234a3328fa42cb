import { fromHex, utf8 } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { type OpenedRelease, openRelease, signRelease } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import { type Invite, Task_Kind } from "@tutti/wire/round";
import { describe, expect, test } from "vitest";
import { checkInvite, checkRelease } from "../src/check.ts";
import { federation, inviteOf, NOW_S, planOf, policyOf, releaseOf, runOf } from "./fixture.ts";

const fed = federation();
const trust = { authority: fed.authority, nowS: NOW_S };
const rules = { trust, policy: policyOf(fed), newest: null };
const plan = planOf();
const run = runOf(plan);
const other = sha256Hex(utf8("another file"));

const refuse = (invite: Invite, change: object = {}) =>
  expect(() => checkInvite(invite, { ...rules, ...change }));

describe("an invitation", () => {
  test("as it should be, for training and for evaluation", () => {
    expect(checkInvite(inviteOf(fed, plan), rules).plan).toEqual(plan);
    expect(checkInvite(inviteOf(fed, plan, { round: 2, attempt: 1 }), rules).attempt).toBe(1);
  });

  test("without a part", () => {
    for (const part of ["plan", "task", "parent"] as const) {
      const { [part]: _, ...rest } = inviteOf(fed, plan);
      refuse(rest as Invite).toThrow(/invitation/);
    }
  });

  test("plan: by another federation, by no owner, by an owner not approved, expired, altered", () => {
    const foreign = federation();
    refuse({ ...inviteOf(fed, plan), plan: signPlan(plan, foreign.owner) }).toThrow(/authority/);
    refuse({ ...inviteOf(fed, plan), plan: signPlan(plan, fed.coordinator) }).toThrow(/role owner/);
    refuse({ ...inviteOf(fed, plan), plan: signPlan(plan, fed.certified("owner", "stranger")) }).toThrow(
      /run owner/,
    );
    refuse(inviteOf(fed, plan), { trust: { ...trust, nowS: NOW_S + 2_000_000 } }).toThrow(/still valid/);
    const altered = inviteOf(fed, plan);
    altered.plan!.payload = altered.plan!.payload.slice();
    altered.plan!.payload[20]! ^= 1;
    refuse(altered).toThrow(/signature/);
  });

  test("task: another run, a round too many, the wrong kind", () => {
    const changed = (change: object): Invite => {
      const invite = inviteOf(fed, plan);
      return { ...invite, task: { ...invite.task!, ...change } };
    };
    refuse(changed({ run: other })).toThrow(/invitation, run/);
    refuse(changed({ round: 3 })).toThrow(/invitation, task/);
    refuse(changed({ kind: Task_Kind.EVALUATE })).toThrow(/invitation, task/);
    refuse(changed({ kind: Task_Kind.UNSPECIFIED })).toThrow(/invitation, task/);
    refuse(changed({ parent: fromHex(other) })).toThrow(/invitation, parent/);
    refuse(changed({ round: 1 })).toThrow(/parent's version: expected 1, got 0/);
  });

  test("parent: signed by somebody else, of another run, base or adapter", () => {
    const by = (change: object) => inviteOf(fed, plan, { release: releaseOf(plan, run, change) });
    const stolen = { ...inviteOf(fed, plan), parent: signRelease(releaseOf(plan, run), fed.owner) };
    refuse(stolen).toThrow(/role coordinator/);
    refuse(by({ run: other })).toThrow(/parent's run/);
    refuse(by({ base: { sha256: other } })).toThrow(/^invitation, base model/);
    refuse(by({ adapter: { sha256: other, bytes: plan.initial.bytes } })).toThrow(/first adapter/);
    refuse(by({ adapter: { sha256: plan.initial.sha256, bytes: 12 } })).toThrow(/first adapter/);
    refuse(by({ rank: 3 })).toThrow(/^invitation, adapter/);
    refuse(by({ secureAggregation: false })).toThrow(/aggregation/);
  });

  test("no way back behind the newest release of the run", () => {
    const held: OpenedRelease = { release: releaseOf(plan, run, { version: 1 }), digest: other };
    refuse(inviteOf(fed, plan), { newest: held }).toThrow(/version: expected at least 1, got 0/);
  });
});

describe("a published release", () => {
  const known = { trust, run, plan, newest: null };
  const publish = (change: object = {}) => signRelease(releaseOf(plan, run, change), fed.coordinator);

  test("as it should be", () => {
    const next = publish({ version: 1, parent: other, adapter: { sha256: other, bytes: 5 } });
    expect(checkRelease(next, known).digest).toBe(openRelease(next, trust).digest);
  });

  test("of another base or method is refused as a release, not as an invitation", () => {
    expect(() => checkRelease(publish({ base: { sha256: other } }), known)).toThrow(/^release, base model/);
    expect(() => checkRelease(publish({ rank: 3 }), known)).toThrow(/^release, adapter/);
  });

  test("of another run, or an older version", () => {
    expect(() => checkRelease(publish({ run: other }), known)).toThrow(/^release, run/);
    const newest = { release: releaseOf(plan, run, { version: 2 }), digest: other };
    expect(() => checkRelease(publish(), { ...known, newest })).toThrow(/version/);
  });
});
