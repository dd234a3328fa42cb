import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { longestRoundMs } from "../src/longest.ts";
import { Stage, type StageOptions } from "./stage.ts";
import { answers, familiar, gather } from "./story.ts";

/** What may be added to the deadlines (docs/reliability.md, promise 2). */
const SLACK_MS = 5_000;
/** Join, train and six stages: each may be told of its deadline so much too late. */
const LATE_MS = SLACK_MS / 8;

const NAMES = [..."abcdefgh"];
type Act =
  | { readonly kind: "come" | "go" | "answer" | "decline" | "ready"; readonly who: number }
  | { readonly kind: "pass"; readonly ms: number }
  | { readonly kind: "everyone" | "crash" };

const who = fc.nat({ max: NAMES.length - 1 });
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constantFrom("come" as const, "answer" as const, "answer" as const),
      who,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("go" as const, "decline" as const, "ready" as const),
      who,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("pass" as const),
      ms: fc.oneof(fc.integer({ min: 0, max: 3_000 }), fc.integer({ min: 0, max: 700_000 })),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("everyone" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const) }) },
);

const deadlines = fc.record({
  joinMs: fc.integer({ min: 100, max: 100_000 }),
  trainMs: fc.integer({ min: 100, max: 600_000 }),
  stageMs: fc.integer({ min: 100, max: 20_000 }),
});
const cohort = fc.constantFrom(
  { min: 3, max: 8 },
  { min: 3, max: 5, overInvite: 1.3 },
  { min: 3, max: 8, target: 4, overInvite: 2 },
  { min: 3, max: 4, count: 2, target: 6, overInvite: 1.3 },
);

/** A round that has not ended has not been going on for longer than its plan says. */
function check({ round, nowMs, lifeMs }: Stage): void {
  if (round.phase === "unmasking" || round.phase === "failed") return;
  expect(nowMs - lifeMs).toBeLessThanOrEqual(longestRoundMs(round.spec.plan) + SLACK_MS);
}

async function perform(stage: Stage, act: Act, late: () => number): Promise<void> {
  if (!("who" in act)) {
    if (act.kind === "pass") return stage.pass(act.ms, late);
    if (act.kind === "crash") return stage.crash();
    return void (await stage.answer(...NAMES));
  }
  const device = NAMES[act.who]!;
  if (act.kind === "come") return stage.come(device);
  if (act.kind === "go") return stage.go(device);
  if (act.kind === "answer") return void (await stage.answer(device));
  const event = act.kind === "ready" ? ({ case: "ready", value: true } as const) : null;
  stage.say(device, { event: event ?? { case: "declined", value: "not today" } });
}

describe("every round ends by its deadline", { timeout: 300_000 }, () => {
  test("whatever happens, and whoever stays silent, each deadline heard of late", async () => {
    let ended = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(act, { minLength: 5, maxLength: 40 }),
        fc.record({ cohort, deadlines, enabled: fc.boolean(), staleness: fc.boolean() }),
        fc.infiniteStream(fc.nat({ max: LATE_MS })),
        fc.subarray(NAMES, { minLength: 2 }),
        async (acts, { cohort, deadlines, enabled, staleness }, lateness, here) => {
          const late = () => lateness.next().value as number;
          const stage = new Stage({
            plan: {
              cohort,
              deadlines,
              secureAggregation: { enabled },
              ...(staleness && { staleness: { max: 2 } }),
            },
          });
          stage.come(...here);
          for (const one of acts) {
            await perform(stage, one, late);
            check(stage);
          }
          stage.pass(longestRoundMs(stage.spec.plan) + SLACK_MS, late);
          expect(["unmasking", "failed"], stage.text()).toContain(stage.round.phase);
          ended++;
        },
      ),
      { numRuns: 150 },
    );
    expect(ended).toBeGreaterThan(100);
  });

  test("and no sooner bound would do: a round that opens when its last deadline passes", async () => {
    const deadlines = { joinMs: 10_000, trainMs: 20_000, stageMs: 1_000 };
    const all = [..."abcdefghijklmn"];
    const stage = new Stage({ ...familiar([...all, "z"]), plan: { deadlines, cohort: { min: 3, max: 15 } } });
    stage.wait(9_000);
    stage.come(...all);
    stage.pass(1_000, () => 0);
    // In each phase one device more falls silent: ready, advertise, share, upload, attest, reveal.
    for (let silent = 1; silent <= 6; silent++) {
      await stage.answer(...all.slice(silent));
      expect(stage.round.phase).not.toBe("unmasking");
      stage.pass(stage.round.deadlineMs - stage.nowMs, () => 0);
    }
    expect(stage.round.phase).toBe("unmasking");
    expect(stage.nowMs).toBe(35_000);
    expect(longestRoundMs(stage.spec.plan)).toBe(35_000);
    await stage.open();
  });

  test("counts the stages that a plan's sums have", () => {
    const of = (change: StageOptions["plan"]) => longestRoundMs(new Stage({ plan: change! }).spec.plan);
    const deadlines = { joinMs: 1_000, trainMs: 10_000, stageMs: 100 };
    expect(of({ deadlines })).toBe(11_500);
    expect(of({ deadlines, secureAggregation: { enabled: false } })).toBe(11_100);
    expect(of({ deadlines, cohort: { min: 3, max: 101 } })).toBe(11_600);
  });
});

describe("a slow device in any phase", () => {
  const ABCD = [..."abcd"];
  const ABC = [..."abc"];
  const PHASES = ["ready", "advertise", "share", "upload", "attest", "reveal"];
  const plan = { cohort: { min: 3, max: 4 } };

  test("holds its stage up until the deadline and no longer, and the sum is that of the others", async () => {
    for (const [before, phase] of PHASES.entries()) {
      const stage = new Stage({ ...familiar(ABCD), plan });
      gather(stage, ABCD);
      await answers(stage, ABCD, before);
      await answers(stage, ABC, 1);
      const { trainMs, stageMs } = stage.spec.plan.deadlines;
      stage.pass(phase === "ready" ? trainMs : stageMs, () => 0);
      await answers(stage, ABC, 5 - before);
      expect(stage.round.phase, phase).toBe("unmasking");
      await stage.open();
      expect(stage.lines.at(-1)).toContain(before > 3 ? "equal to a + b + c + d" : "equal to a + b + c");
    }
  });

  test("that is gone holds nothing up at all", async () => {
    for (const [before, phase] of PHASES.entries()) {
      const stage = new Stage({ ...familiar(ABCD), plan });
      gather(stage, ABCD);
      await answers(stage, ABCD, before);
      stage.go("d");
      await answers(stage, ABC, 6 - before);
      expect(stage.round.phase, phase).toBe("unmasking");
      expect(stage.nowMs).toBe(0);
    }
  });

  test("that trains holds nothing up where a device more was invited than is needed", async () => {
    const stage = new Stage({ plan: { cohort: { min: 3, max: 3, overInvite: 1.3 } } });
    gather(stage, ABCD);
    await answers(stage, ABC, 6);
    expect(stage.round.phase).toBe("unmasking");
    expect(stage.nowMs).toBe(0);
  });
});
