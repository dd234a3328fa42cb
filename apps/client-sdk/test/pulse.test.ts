import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { Pulse } from "../src/pulse.ts";

const CHILD = fileURLToPath(new URL("./node/held-up-child.ts", import.meta.url));

describe("how soon a device answers", () => {
  test("it says nothing before a whole round of the run, and names what held it up, with a margin", () => {
    let held = 0;
    const pulse = new Pulse(() => held);
    const said = [400, 700, 100].map((ms, round) => {
      held = ms;
      pulse.vectorSent("a", round);
      return pulse.answersWithinMs("a");
    });
    expect(said).toEqual([0, 1_500 + 3 * 700, 1_500 + 3 * 700]);
    expect(pulse.answersWithinMs("b")).toBe(0);
  });

  test("what holds it up before its vector counts at once; what did so rounds ago no longer", () => {
    let held = 0;
    const pulse = new Pulse(() => held);
    for (let round = 0; round < 2; round++) pulse.vectorSent("a", round);
    held = 900;
    expect(pulse.answersWithinMs("a")).toBe(1_500 + 3 * 900);
    held = 0;
    expect(pulse.answersWithinMs("a")).toBe(1_500);
    held = 900;
    pulse.vectorSent("a", 2);
    held = 0;
    for (let round = 3; round < 5; round++) pulse.vectorSent("a", round);
    expect(pulse.answersWithinMs("a")).toBe(1_500 + 3 * 900);
    pulse.vectorSent("a", 5);
    expect(pulse.answersWithinMs("a")).toBe(1_500);
  });

  test("another attempt at a round is no other round", () => {
    const pulse = new Pulse(() => 10);
    for (let attempt = 0; attempt < 5; attempt++) pulse.vectorSent("a", 0);
    expect(pulse.answersWithinMs("a")).toBe(0);
    pulse.vectorSent("a", 1);
    expect(pulse.answersWithinMs("a")).toBe(1_530);
  });

  test("another run begins anew, also when it is the one of before again", () => {
    const pulse = new Pulse(() => 10);
    for (const run of ["a", "b", "a"]) {
      pulse.vectorSent(run, 0);
      expect(pulse.answersWithinMs(run)).toBe(0);
    }
    pulse.vectorSent("a", 1);
    expect(pulse.answersWithinMs("a")).toBe(1_530);
  });

  test("one that is held up for very long, or on an unknown platform, says nothing", () => {
    for (const pulse of [new Pulse(() => 30_000), new Pulse()]) {
      for (let round = 0; round < 2; round++) pulse.vectorSent("a", round);
      expect(pulse.answersWithinMs("a")).toBe(0);
    }
  });

  test("a process that computes is held up; one that was stopped is not", async () => {
    const child = fork(CHILD, [], { execArgv: ["--import", "tsx"] });
    try {
      await once(child, "message");
      const heldUpMs = async (computeMs: number) => {
        child.send(computeMs);
        return Number((await once(child, "message"))[0]);
      };
      // Of the start of a process too.
      const before = await heldUpMs(0);
      child.kill("SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      child.kill("SIGCONT");
      expect(await heldUpMs(0)).toBeLessThanOrEqual(Math.max(before, 1_000));
      expect(await heldUpMs(2_000)).toBeGreaterThan(1_500);
    } finally {
      child.kill("SIGKILL");
    }
  });
});
