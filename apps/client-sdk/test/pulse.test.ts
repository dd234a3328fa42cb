import { describe, expect, test } from "vitest";
import { heldUpMs } from "../src/node/held-up.ts";
import { Pulse } from "../src/pulse.ts";

describe("how soon a device answers", () => {
  test("it says nothing before a whole round of the run, and names what held it up, with a margin", () => {
    const held = [400, 700, 100];
    const pulse = new Pulse(() => held.shift() ?? 0);
    const said = ["a", "a", "a"].map((run) => {
      pulse.vectorSent(run);
      return pulse.answersWithinMs(run);
    });
    expect(said).toEqual([0, 1_500 + 3 * 700, 1_500 + 3 * 700]);
    expect(pulse.answersWithinMs("b")).toBe(0);
  });

  test("another run begins anew; one held up for very long, or on an unknown platform, says nothing", () => {
    const pulse = new Pulse(() => 30_000);
    for (const run of ["a", "b", "a", "a"]) pulse.vectorSent(run);
    expect(pulse.answersWithinMs("a")).toBe(0);
    const unknown = new Pulse();
    for (const run of ["a", "a"]) unknown.vectorSent(run);
    expect(unknown.answersWithinMs("a")).toBe(0);
  });

  test("a thread that computes is seen to stand still", async () => {
    heldUpMs();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const untilMs = performance.now() + 400;
    while (performance.now() < untilMs);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(heldUpMs()).toBeGreaterThan(300);
  });
});
