import { systemClock } from "@tutti/foundation/clock";
import { expect, test } from "vitest";
import type { Coordinator } from "../../src/drive/coordinator.ts";
import { watchRounds } from "../../src/observe/rounds.ts";
import type { Seen } from "../../src/observe/seen.ts";

/** A run as its header has it after so many rounds, of which it holds the newest hundred. */
function headerAfter(rounds: number) {
  const history = Array.from({ length: Math.min(rounds, 100) }, () => ({ release: "r", survivors: 3 }));
  return {
    round: rounds,
    attempt: 0,
    earlier: rounds - history.length,
    history,
    state: "running",
    reason: "",
  };
}

test("a round is told to have been published also when its header holds no more records than before", () => {
  const driver = { options: { run: "r" }, header: headerAfter(98), round: null };
  let look = () => {};
  const coordinator = {
    drivers: () => [driver],
    watch: (callback: () => void) => {
      look = callback;
      return () => {};
    },
  };
  const seen: Seen[] = [];
  watchRounds(coordinator as unknown as Coordinator, systemClock(), (one) => seen.push(one));
  for (let rounds = 99; rounds <= 104; rounds++) {
    driver.header = headerAfter(rounds);
    look();
  }
  const attempts = seen.flatMap((one) => (one.kind === "attempt" ? [`${one.round} ${one.outcome}`] : []));
  expect(attempts).toEqual([98, 99, 100, 101, 102, 103].map((round) => `${round} published`));
});
