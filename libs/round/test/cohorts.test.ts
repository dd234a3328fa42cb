import { describe, expect, test } from "vitest";
import type { StageOptions } from "./stage.ts";
import { answers, familiar, gather, tell } from "./story.ts";

const EIGHT = [..."abcdefgh"];
const cohorts = (cohort: Record<string, unknown>): StageOptions => ({
  ...familiar(EIGHT),
  plan: { cohort: { min: 3, max: 4, count: 2, ...cohort } },
});

describe("a round of several cohorts", () => {
  test("each goes through its stages by itself, and the round waits for the last", async () => {
    const stage = await tell(
      "two-cohorts",
      async (round) => {
        gather(round, EIGHT);
        await round.answer(...EIGHT);
        const [first, second] = round.round.cohorts.map(({ sum }) => [...sum.members]);
        await answers(round, first!, 5);
        await answers(round, second!, 5);
        await round.open();
      },
      cohorts({}),
    );
    expect(stage.round.phase).toBe("unmasking");
  });

  test("one that falls below its threshold is dropped by name, and the other is opened", async () => {
    const stage = await tell(
      "cohort-dropped",
      async (round) => {
        gather(round, EIGHT);
        await answers(round, EIGHT, 4);
        const [first, second] = round.round.cohorts.map(({ sum }) => [...sum.members].sort());
        round.go(first![0]!);
        round.go(first![1]!);
        await round.answer(...first!.slice(2));
        await answers(round, second!, 2);
        round.say(first![3]!, { event: { case: "uploaded", value: true } });
        await round.open();
      },
      cohorts({}),
    );
    expect(stage.round.phase).toBe("unmasking");
    expect(stage.round.cohorts.map(({ dropped }) => dropped === "")).toEqual([false, true]);
  });

  test("a median is not taken over a third of them: the round fails by name", async () => {
    const nine = [...EIGHT, "i"];
    const stage = await tell(
      "cohorts-too-few",
      async (round) => {
        gather(round, nine);
        await answers(round, nine, 3);
        const [first, second] = round.round.cohorts.map(({ sum }) => [...sum.members].sort());
        round.go(first![0]!);
        await round.answer(...first!.slice(1));
        round.go(second![0]!);
        await round.answer(...second!.slice(1));
      },
      {
        expected: nine,
        plan: { cohort: { min: 3, max: 3, count: 3, combine: "median" } },
      },
    );
    expect(stage.round.phase).toBe("failed");
  });

  test("a median does not begin over two: the round waits for the devices of a third", async () => {
    await tell(
      "cohorts-too-few-come",
      async (round) => {
        round.come(...EIGHT);
        round.wait(60_000);
      },
      { plan: { cohort: { min: 3, max: 3, count: 3, combine: "median" } } },
    );
  });

  test("each has its own deadline: one that stalls is closed with who came, the other goes on", async () => {
    const stage = await tell(
      "cohort-stalls",
      async (round) => {
        gather(round, EIGHT);
        await round.answer(...EIGHT);
        const [first, second] = round.round.cohorts.map(({ sum }) => [...sum.members].sort());
        await answers(round, first!.slice(1), 1);
        round.wait(10_000);
        await answers(round, second!, 2);
        round.wait(5_000);
        round.crash();
        await answers(round, first!.slice(1), 4);
        await answers(round, second!, 3);
        await round.open();
      },
      cohorts({}),
    );
    expect(stage.round.phase).toBe("unmasking");
  });
});
