import { describe, expect, test } from "vitest";
import { isExcused, owedAfter } from "../src/excuse.ts";
import { Stage, type StageOptions } from "./stage.ts";
import { answers, gather, tell } from "./story.ts";

const FIVE = [..."abcde"];
const EIGHT = [..."abcdefgh"];
const invites = (cohort: Record<string, unknown>, more: StageOptions = {}): StageOptions => ({
  ...more,
  plan: { cohort, ...more.plan },
});

describe("a round that invites more than it needs", () => {
  test("over-invited: three of four are enough; the fourth is excused and holds nothing up", async () => {
    const stage = await tell(
      "over-invited",
      async (round) => {
        gather(round, FIVE);
        const [first, second, third, slow] = [...round.round.invited];
        await round.answer(first!, second!);
        round.note(`${slow} still trains when ${third} is ready`);
        await round.answer(third!);
        expect(isExcused(round.round, slow!)).toBe(true);
        round.say(slow!, { event: { case: "ready", value: true } });
        await answers(round, FIVE, 5);
        await round.open();
      },
      invites({ min: 3, max: 3, overInvite: 1.3 }),
    );
    expect(stage.round.phase).toBe("unmasking");
    expect(stage.round.invited.size).toBe(4);
    const [slow] = [...stage.round.invited].filter((device) => !stage.round.ready.has(device));
    expect(owedAfter(stage.round)).toEqual(new Map([[slow, 1]]));
  });

  test("surplus-ready: five are ready for the four places of a cohort; the fifth is excused", async () => {
    const stage = await tell(
      "surplus-ready",
      async (round) => {
        gather(round, [..."abcdef"]);
        await round.answer(...FIVE);
        round.say("f", { event: { case: "declined", value: "on battery" } });
        await answers(round, [..."abcdef"], 5);
        await round.open();
      },
      invites({ min: 3, max: 4, count: 2 }),
    );
    expect(stage.round.cohorts.map(({ sum }) => sum.members.size)).toEqual([4]);
    const members = stage.round.cohorts[0]!.sum.members;
    expect([...owedAfter(stage.round).keys()]).toEqual(FIVE.filter((device) => !members.has(device)));
  });

  test("quorum-at-deadline: with the fewest that do; who did not answer is excused", async () => {
    const stage = await tell(
      "quorum-at-deadline",
      async (round) => {
        gather(round, FIVE);
        await round.answer("a", "b", "c");
        round.wait(599_999);
        round.wait(1);
        await answers(round, ["a", "b", "c"], 5);
        await round.open();
      },
      invites({ min: 3, max: 5, overInvite: 1.3 }),
    );
    expect(stage.round.phase).toBe("unmasking");
  });

  test("excused-returns: back after a cut, and after a crash, it hears so again", async () => {
    const stage = await tell(
      "excused-returns",
      async (round) => {
        gather(round, [..."abcdefgh"]);
        const invited = [...round.round.invited];
        round.go(invited[0]!);
        await round.answer(...invited.slice(1));
        round.come(invited[0]!);
        round.crash();
        await answers(round, EIGHT, 5);
        await round.open();
      },
      invites({ min: 3, max: 3, overInvite: 1.3 }),
    );
    expect(owedAfter(stage.round).size).toBe(1);
  });

  test("over-invited-cohorts: several cohorts, dealt from those who are ready first", async () => {
    const stage = await tell(
      "over-invited-cohorts",
      async (round) => {
        gather(round, EIGHT);
        await answers(round, EIGHT, 6);
        await round.open();
      },
      invites({ min: 3, max: 4, count: 2, target: 6, overInvite: 1.3 }),
    );
    expect(stage.round.cohorts.map(({ sum }) => sum.members.size)).toEqual([3, 3]);
    expect(owedAfter(stage.round).size).toBe(2);
  });
});

describe("a straggler, where updates may be late by a round", () => {
  const late = { cohort: { min: 3, max: 3, overInvite: 1.3 }, rounds: 3, staleness: { max: 1 } };

  test("straggler-joins: excused from one round, it is asked first for the next, and ready", async () => {
    const stage = await tell(
      "straggler-joins",
      async (round) => {
        gather(round, [..."abcz"]);
        await round.answer("z", "a");
        await answers(round, [..."abcz"], 6);
        await round.open();
      },
      { plan: late, round: 1, owed: new Map([["z", 1]]) },
    );
    expect(stage.round.cohorts[0]!.sum.members).toContain("z");
    expect(owedAfter(stage.round).has("z")).toBe(false);
  });

  test("straggler-too-late: still training when the next round closes, it is owed no other", async () => {
    const stage = await tell(
      "straggler-too-late",
      async (round) => {
        gather(round, [..."abcz"]);
        await answers(round, [..."abc"], 6);
        round.say("z", { event: { case: "ready", value: true } });
        await round.open();
      },
      { plan: late, round: 1, owed: new Map([["z", 1]]) },
    );
    expect(isExcused(stage.round, "z")).toBe(true);
    expect(owedAfter(stage.round)).toEqual(new Map());
  });
});

describe("who is owed an invitation", () => {
  test("is owed one once, or for as many rounds as an update may be late", async () => {
    const owedIn = async (staleness: unknown, owed: ReadonlyMap<string, number>) => {
      const plan = { cohort: { min: 3, max: 3, overInvite: 1.3 }, ...(staleness ? { staleness } : {}) };
      const stage = new Stage({ plan, owed });
      gather(stage, [..."abcd"]);
      await stage.answer("b", "c", "d");
      return owedAfter(stage.round);
    };
    expect(await owedIn(null, new Map())).toEqual(new Map([["a", 1]]));
    expect(await owedIn(null, new Map([["a", 1]]))).toEqual(new Map());
    const late = { max: 2 };
    expect(await owedIn(late, new Map([["a", 1]]))).toEqual(new Map([["a", 2]]));
    expect(await owedIn(late, new Map([["a", 2]]))).toEqual(new Map());
    // Not here: for as long as it would be, if it were.
    expect(await owedIn(late, new Map([["z", 1]]))).toEqual(
      new Map([
        ["z", 2],
        ["a", 1],
      ]),
    );
    expect(await owedIn(late, new Map([["b", 1]]))).toEqual(new Map([["a", 1]]));
  });
});
