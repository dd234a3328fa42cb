import { describe, expect, test } from "vitest";
import { survivors } from "../src/summing.ts";
import { wordTo } from "../src/words.ts";
import { PAPERS, Stage } from "./stage.ts";
import { answers, familiar, gather, tell } from "./story.ts";

const ABC = ["a", "b", "c"];
const ABCD = [...ABC, "d"];
const ROUNDS = 5;

describe("a round that opens", () => {
  test("quiet: three strangers", async () => {
    const stage = await tell("quiet", async (round) => {
      gather(round, ABC);
      await answers(round, ABC, 6);
      await round.open();
    });
    expect(stage.round.phase).toBe("unmasking");
  });

  test("with one device lost in each stage, costing only itself", async () => {
    for (const [stage, word] of ["ready", "advertise", "share", "upload", "attest", "reveal"].entries()) {
      const told = await tell(
        `lost-before-${word}`,
        async (round) => {
          gather(round, ABCD);
          await answers(round, ABCD, stage);
          await round.answer(...ABC);
          round.go("d");
          await answers(round, ABC, 5 - stage);
          if (round.round.phase === "unmasking") await round.open();
        },
        familiar(ABCD),
      );
      expect(told.round.phase).toBe("unmasking");
    }
  });

  test("with one device revoked in each stage, costing only itself, and heard no more", async () => {
    for (const [stage, word] of ["ready", "advertise", "share", "upload", "attest", "reveal"].entries()) {
      const told = await tell(
        `revoked-before-${word}`,
        async (round) => {
          gather(round, ABCD);
          await answers(round, ABCD, stage);
          const late = await round.player("d").answer(wordTo("d", round.round, PAPERS)!);
          round.say("d", { event: { case: "revoked", value: true } });
          expect(round.say("d", late)).toBe(false);
          expect(round.say("d", { event: { case: "connected", value: true } })).toBe(false);
          await answers(round, ABC, 6 - stage);
          await round.open();
        },
        familiar(ABCD),
      );
      expect(told.round.phase).toBe("unmasking");
      const [sum] = told.round.cohorts.map((cohort) => cohort.sum);
      // Once its vector is in the running sum it stays there; before, it is not even a member.
      expect(sum!.members.has("d")).toBe(stage > 1 || word === "advertise");
      expect(survivors(sum!).includes("d")).toBe(stage > 3);
    }
  });

  test("without one who was ready and is revoked before sums are dealt", async () => {
    const told = await tell(
      "revoked-when-ready",
      async (round) => {
        gather(round, ABCD);
        await round.answer("d");
        round.say("d", { event: { case: "revoked", value: true } });
        round.say("d", { event: { case: "revoked", value: true } });
        await answers(round, ABC, 6);
        await round.open();
      },
      familiar(ABCD),
    );
    expect([...told.round.cohorts[0]!.sum.members].sort()).toEqual(ABC);
  });

  test("without one who was ready and declines after all", async () => {
    await tell(
      "declined-after-ready",
      async (round) => {
        gather(round, ABCD);
        await round.answer("a", "d");
        round.say("d", { event: { case: "declined", value: "on battery now" } });
        round.say("d", { event: { case: "ready", value: true } });
        await round.answer("b", "c");
      },
      familiar(ABCD),
    );
  });

  test("without one who declines", async () => {
    const stage = await tell(
      "declined",
      async (round) => {
        gather(round, ABCD);
        round.say("d", { event: { case: "declined", value: "the policy allows no training today" } });
        round.say("d", { event: { case: "declined", value: "again" } });
        await answers(round, ABC, 6);
        await round.open();
      },
      familiar(ABCD),
    );
    expect(stage.round.phase).toBe("unmasking");
  });

  test("for a device that goes and returns within its stage", async () => {
    await tell(
      "returns",
      async (round) => {
        gather(round, ABCD);
        await answers(round, ABCD, 2);
        await round.answer("a", "b");
        round.go("d");
        round.come("d");
        await round.answer("c", "d");
        await answers(round, ABCD, 3);
        await round.open();
      },
      familiar(ABCD),
    );
  });

  test("while another comes too late to be in it", async () => {
    await tell(
      "latecomer",
      async (round) => {
        gather(round, ABC);
        round.come("z");
        round.say("z", { event: { case: "ready", value: true } });
        await answers(round, [...ABC, "z"], 1);
        round.say("z", { event: { case: "uploaded", value: true }, vector: round.player("z").words });
        await answers(round, [...ABC, "z"], 5);
        await round.open();
      },
      familiar(ABC),
    );
  });

  test("without masks, where plan and policies say so", async () => {
    const plain = { plan: { secureAggregation: { enabled: false } }, expected: ABCD };
    await tell(
      "plain",
      async (round) => {
        gather(round, ABCD);
        await round.answer(...ABCD);
        await round.answer("a", "b", "c");
        round.go("d");
        round.say("d", { event: { case: "uploaded", value: true }, vector: round.player("d").words });
        await round.open();
      },
      plain,
    );
  });

  test("of evaluation: a vector of weight and metrics alone", async () => {
    const stage = await tell(
      "evaluate",
      async (round) => {
        gather(round, ABC);
        await answers(round, ABC, 6);
        await round.open();
      },
      { ...familiar(ABC), round: ROUNDS, plan: { rounds: ROUNDS } },
    );
    expect(stage.sums.get(0)?.length).toBe(6);
  });
});

describe("a round that ends by name", () => {
  test("too few come", async () => {
    await tell("too-few-come", (round) => {
      round.come("a", "b");
      round.wait(59_999);
      round.wait(1);
    });
  });

  test("too few are left, though enough came: at the end of the time for coming, not before", async () => {
    const stage = await tell("left-while-gathering", (round) => {
      round.come(...ABC);
      round.go("c");
      round.wait(1_500);
      expect(round.round.phase).toBe("gathering");
      round.note("one whose state flickers ends nothing, and prolongs nothing");
      round.wait(30_000);
      round.come("c");
      round.go("c");
      round.wait(28_000);
      round.come("c");
      round.go("c");
      round.wait(499);
      expect(round.round.phase).toBe("gathering");
      round.wait(1);
    });
    expect(stage.round.phase).toBe("failed");
    expect(stage.nowMs).toBe(stage.spec.plan.deadlines.joinMs);
  });

  test("too few are ready", async () => {
    await tell(
      "too-few-ready",
      async (round) => {
        gather(round, ABCD);
        await round.answer("a", "b");
        round.say("c", { event: { case: "declined", value: "on battery" } });
        round.wait(600_000);
      },
      familiar(ABCD),
    );
  });

  test("too many decline: equal reasons are counted, and the whole is cut", async () => {
    const crowd = Array.from({ length: 40 }, (_, at) => `d${at}`);
    const stage = new Stage({ ...familiar(crowd), plan: { cohort: { min: 3, max: 60 } } });
    gather(stage, crowd);
    for (const [at, device] of crowd.entries()) {
      const value = at < 10 ? `${at} says ${"much ".repeat(90)}` : "on battery";
      stage.say(device, { event: { case: "declined", value } });
    }
    const { phase, reason } = stage.round;
    expect(phase).toBe("failed");
    expect(reason).toMatch(
      /^0 of at least 3 devices were ready; 30 devices declined: on battery; d0 declined: 0/,
    );
    expect(reason.length).toBe(2_000);
    expect(stage.effects.at(-1)).toEqual({ kind: "fail", reason });
  });

  test("below threshold", async () => {
    const stage = await tell(
      "below-threshold",
      async (round) => {
        gather(round, ABCD);
        await answers(round, ABCD, 4);
        await round.answer("a", "b");
        round.wait(15_000);
      },
      familiar(ABCD),
    );
    expect(stage.round.phase).toBe("failed");
  });

  test("fewer survivors than the plan's cohort, though the threshold would do", async () => {
    await tell(
      "below-cohort",
      async (round) => {
        gather(round, ABC);
        await answers(round, ABC, 3);
        await round.answer("a", "b");
        round.wait(15_000);
      },
      familiar(ABC),
    );
  });

  test("fewer keys than the plan's cohort: nothing is shared", async () => {
    await tell(
      "below-cohort-early",
      async (round) => {
        gather(round, ABC);
        await round.answer(...ABC);
        await round.answer("a", "b");
        round.wait(15_000);
      },
      familiar(ABC),
    );
  });

  test("a sum that cannot be unmasked", async () => {
    await tell(
      "broken",
      async (round) => {
        gather(round, ABC);
        await answers(round, ABC, 6);
        round.say("", { event: { case: "broken", value: "seed of b: shares that fit nothing" } });
        round.say("", { event: { case: "broken", value: "again" } });
      },
      familiar(ABC),
    );
  });
});

describe("messages at the wrong time", () => {
  test("a vector after the sum is sealed", async () => {
    await tell(
      "late-upload",
      async (round) => {
        gather(round, ABCD);
        await answers(round, ABCD, 3);
        await round.answer(...ABC);
        round.wait(15_000);
        round.say("d", { event: { case: "uploaded", value: true }, vector: round.player("d").words });
        await answers(round, ABC, 2);
        await round.open();
      },
      familiar(ABCD),
    );
  });

  test("every message twice, and all of them again at the end", async () => {
    const stage = await tell(
      "repeats",
      async (round) => {
        gather(round, ABC);
        const said: [string, Awaited<ReturnType<Stage["answer"]>>[number]][] = [];
        for (let time = 0; time < 6; time++) {
          for (const device of ABC) {
            const [answer] = await round.answer(device);
            if (!answer) continue;
            said.push([device, answer]);
            round.say(device, answer);
          }
        }
        round.note("all of it once more");
        for (const [device, answer] of said) round.say(device, answer);
        await round.open();
      },
      familiar(ABC),
    );
    expect(stage.effects.filter(({ kind }) => kind === "add-vector")).toHaveLength(3);
    expect(stage.effects.filter(({ kind }) => kind === "complete")).toHaveLength(1);
  });
});

describe("a coordinator that crashes", () => {
  test("in every phase, once", async () => {
    const stage = await tell(
      "crashes",
      async (round) => {
        round.come("a");
        round.crash();
        gather(round, ABC);
        for (let time = 0; time < 6; time++) {
          await round.answer("a");
          round.crash();
          await round.answer("a", "b", "c");
        }
        round.crash();
        await round.open();
      },
      familiar(ABC),
    );
    expect(stage.round.phase).toBe("unmasking");
  });

  test("and its deadlines start anew: devices that were waited for have the whole stage again", async () => {
    await tell(
      "crash-deadline",
      async (round) => {
        gather(round, ABCD);
        await answers(round, ABCD, 3);
        round.wait(14_000);
        await round.answer(...ABC);
        round.crash();
        round.wait(14_999);
        round.go("d");
        await answers(round, ABC, 2);
        await round.open();
      },
      familiar(ABCD),
    );
  });
});
