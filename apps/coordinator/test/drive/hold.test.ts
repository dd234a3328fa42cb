import { beforeEach, describe, expect, test } from "vitest";
import { Stage } from "../../../../libs/round/test/stage.ts";
import { familiar, gather } from "../../../../libs/round/test/story.ts";
import { Hold } from "../../src/drive/hold.ts";
import { TestClock } from "./house.ts";

const ABC = ["a", "b", "c"];
let clock: TestClock;
let stage: Stage;
/** In training: a, b and c are awaited. */
beforeEach(() => {
  clock = new TestClock();
  stage = new Stage(familiar(ABC));
  gather(stage, ABC);
});

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Whether a hold is over within a turn of the event loop. */
async function over(holding: Promise<void>): Promise<boolean> {
  let ended = false;
  void holding.then(() => {
    ended = true;
  });
  await turn();
  return ended;
}

describe("a transaction is held", () => {
  test("until the last device that its stage waits for is heard, whatever else is", async () => {
    const hold = new Hold(clock, 50);
    const holding = hold.whileAwaiting(stage.round, ["a"]);
    for (const device of ["a", "z", "b"]) hold.heard(device);
    expect(await over(holding)).toBe(false);
    hold.heard("c");
    expect(await over(holding)).toBe(true);
  });

  test("no longer than its time, and not beside an entry of the coordinator's own", async () => {
    const hold = new Hold(clock, 50);
    const late = hold.whileAwaiting(stage.round, ["a"]);
    expect(await over(late)).toBe(false);
    clock.next();
    expect(clock.nowMs()).toBe(50);
    expect(await over(late)).toBe(true);
    const ticked = hold.whileAwaiting(stage.round, ["a"]);
    hold.heard("");
    expect(await over(ticked)).toBe(true);
    expect(await over(hold.whileAwaiting(stage.round, ["a", ""]))).toBe(true);
  });

  test("not at all where nobody else is awaited, where there is no round, or no time for it", async () => {
    const hold = new Hold(clock, 50);
    expect(await over(hold.whileAwaiting(stage.round, ABC))).toBe(true);
    expect(await over(hold.whileAwaiting(null, ["a"]))).toBe(true);
    expect(await over(new Hold(clock, 0).whileAwaiting(stage.round, ["a"]))).toBe(true);
  });
});
