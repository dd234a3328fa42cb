import { corruptible, thresholdFor } from "@tutti/secagg/threshold";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { combined, equalWords } from "./harness/attempt.ts";
import { againstDevice, type Lab } from "./harness/lab.ts";
import type { Actor } from "./harness/sent.ts";
import { endAll, worked } from "./scenario.ts";

// docs/threat-model.md, Two sums that share members: what a coordinator can have of one round beyond one
// sum, so that a change in it is seen.

afterAll(endAll);

/** One attempt with these devices, of whom only some are asked to reveal. */
async function summed(lab: Lab, attempt: number, { actors, asked }: Record<"actors" | "asked", Actor[]>) {
  const begun = await lab.begin({ ...INVITE.of(lab), attempt });
  const names = actors.map(({ name }) => name).sort();
  for (const actor of actors) await begun.share(actor);
  for (const actor of actors) await begun.mask(actor, begun.delivery(actor.name, names));
  for (const actor of actors) await begun.attest(actor, begun.survivors(names));
  for (const actor of asked) await begun.reveal(actor, begun.attestations([...begun.signatures]));
  return await begun.opened(names);
}

/** One invitation for both attempts: another would be another task. */
const INVITE = {
  made: new WeakMap<Lab, ReturnType<Lab["invite"]>>(),
  of(lab: Lab) {
    const invite = this.made.get(lab) ?? lab.invite();
    this.made.set(lab, invite);
    return invite;
  },
};

describe("two sums of one round", () => {
  test("who was in the first and did not reveal helps with a second; who revealed does not", async () => {
    const run = againstDevice(async (lab) => {
      const first = lab.honest("w1", "w2", "w3");
      const a = await summed(lab, 0, { actors: lab.actors, asked: first });
      const second = lab.honest("d1", "d2");
      const b = await summed(lab, 1, { actors: lab.actors, asked: lab.actors });
      // Both are opened: the victim's vector is in each, and out of their difference.
      const known = [
        ...first.map(({ words }) => [1, words] as const),
        ...second.map(({ words }) => [-1, words] as const),
      ];
      const { bits } = lab.plan.secureAggregation;
      expect(equalWords(combined(bits, [1, a], [-1, b]), combined(bits, ...known))).toBe(true);
      const terms = lab.terms({ ...INVITE.of(lab), attempt: 2 });
      first[0]!.begin(terms, first[0]!.words);
      const again = await first[0]!.ask({
        case: "openSession",
        value: { $typeName: "tutti.v1.OpenSession", terms },
      });
      expect(again.faults[0]?.message).toContain("a round whose sum was not opened yet");
      return worked("two sums");
    });
    expect(await run()).toEqual(worked("two sums"));
  });

  test("whatever is added and subtracted of them, t − n_C honest devices stay in it with one weight", () => {
    fc.assert(
      fc.property(
        fc.array(session, { minLength: 1, maxLength: 5 }),
        fc.array(weight, { minLength: 5 }),
        (drawn, weights) => {
          const sums = opened(drawn);
          const used = sums
            .map((sum, at) => ({ ...sum, weight: weights[at]! }))
            .filter((sum) => sum.weight !== 0);
          if (used.length === 0) return;
          const total = new Map<number, number>();
          for (const { members, weight } of used) {
            for (const device of members) total.set(device, (total.get(device) ?? 0) + weight);
          }
          const [earliest] = used;
          const alike = [...total.values()].filter((value) => value === earliest!.weight).length;
          expect(alike).toBeGreaterThanOrEqual(earliest!.least);
        },
      ),
    );
  });

  test("of the members of one cohort two sums are never opened: two quorums share an honest device", () => {
    for (let n = 2; n <= 1000; n++) {
      const honest = n - corruptible(n);
      expect(2 * (thresholdFor(n) - corruptible(n))).toBeGreaterThan(honest);
    }
  });
});

const weight = fc.integer({ min: -2, max: 2 });
/** Devices by number: which come, and in which order they are asked to reveal. */
const session = fc.uniqueArray(fc.integer({ min: 0, max: 24 }), { minLength: 3, maxLength: 20 });

/** Sums in the order of their sessions: who revealed in one is in no later one, as its ledger says. */
function opened(sessions: readonly number[][]) {
  const done = new Set<number>();
  return sessions.flatMap((drawn) => {
    const members = drawn.filter((device) => !done.has(device));
    if (members.length < 3) return [];
    // The accomplices are beside these, as many as there may be.
    const n = largest(members.length);
    const least = thresholdFor(n) - corruptible(n);
    for (const device of members.slice(0, least)) done.add(device);
    return [{ members, least }];
  });
}

/** The size of a cohort in which so many are honest, and all others are not. */
function largest(honest: number): number {
  let n = honest;
  while (n + 1 - corruptible(n + 1) === honest) n++;
  while (n - corruptible(n) < honest) n++;
  return n;
}
