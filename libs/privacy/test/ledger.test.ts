import { Fault } from "@tutti/foundation/fault";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epsilonOfRho, noiseFor, rhoOf } from "../src/accountant.ts";
import { ANY_RUN, type Entry, formatEntry, parseLedger, permitSpend, spent } from "../src/ledger.ts";

const entry = (change: Partial<Entry> = {}): Entry => ({
  ...{ run: "run-a", round: 0, attempt: 0, rho: 0.01, delta: 1e-5 },
  ...change,
});

describe("the budget", () => {
  const budget = { epsilon: 4, delta: 1e-5 };

  test("counts the run's own rounds, and every attempt", () => {
    const entries = [entry(), entry({ attempt: 1 }), entry({ run: "run-b", rho: 9 })];
    expect(spent(entries, "run-a", 1e-5)).toEqual({
      rounds: 2,
      rho: 0.02,
      epsilon: epsilonOfRho(0.02, 1e-5),
    });
    expect(spent(entries, "run-c", 1e-5)).toEqual({ rounds: 0, rho: 0, epsilon: 0 });
  });

  test("a plan of 50 rounds that just fits is let through to its last round, and not one more", () => {
    const rho = rhoOf(noiseFor({ ...budget, steps: 50, sampling: 1 }));
    const entries: Entry[] = [];
    for (let round = 0; round < 50; round++) {
      const next = entry({ round, rho });
      permitSpend(entries, next, budget);
      entries.push(next);
    }
    expect(() => permitSpend(entries, entry({ round: 50, rho }), budget)).toThrow(Fault);
  });

  test("a budget that is met exactly is not missed by the rounding of a sum", () => {
    const tenths = [0.1, 0.1].map((rho) => entry({ rho }));
    expect(0.1 + 0.1 + 0.1).toBeGreaterThan(0.3);
    permitSpend(tenths, entry({ rho: 0.1 }), { epsilon: epsilonOfRho(0.3, 1e-5), delta: 1e-5 });
  });

  test("a refusal names the budget, what was spent, and what this round would make of it", () => {
    const entries = [entry({ rho: 0.3 }), entry({ rho: 0.1 })];
    const refuse = () => permitSpend(entries, entry({ round: 7, rho: 0.2 }), budget);
    expect(refuse).toThrow(/^privacy budget of run run-a: expected at most ε 4 at δ 0.00001, got ε 5\.\d+ /);
    expect(refuse).toThrow(/ with round 7, after ε 4\.\d+ in 2 rounds\. Raise/);
    expect(refuse).toThrow(expect.objectContaining({ code: "refused" }));
  });

  test("a round without any noise is refused by every budget", () => {
    expect(() => permitSpend([], entry({ rho: Infinity }), { epsilon: 1e9, delta: 0.1 })).toThrow(
      /got ε without bound/,
    );
  });
});

describe("the file", () => {
  const entries = fc.array(
    fc.record({
      run: fc.stringMatching(/^[\w.-]{1,64}$/),
      round: fc.nat(),
      attempt: fc.nat(9),
      rho: fc.double({ min: 0, max: 1e6, noNaN: true }),
      delta: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
    { maxLength: 6 },
  );

  test("what is written is read again, to the last digit", () => {
    fc.assert(
      fc.property(entries, (some) => {
        // −0 reads as 0, which costs the same.
        const written = some.map((one) => ({ ...one, rho: one.rho + 0, delta: one.delta + 0 }));
        expect(parseLedger(written.map(formatEntry).join(""))).toEqual(written);
      }),
    );
  });

  test("torn at any byte, the last entry never costs its run less than it would whole", () => {
    // Rounds of one run cost the same: that is what a torn amount is taken for.
    const whole = [entry({ rho: 0.0125 }), entry({ round: 1, rho: 0.0125 })].map(formatEntry);
    const text = whole.join("");
    for (let length = whole[0]!.length + 1; length <= text.length; length++) {
      const { rho, rounds } = spent(parseLedger(text.slice(0, length)), "run-a", 1e-5);
      expect([rho, rounds]).toEqual([0.025, 2]);
    }
  });

  test("a first line torn before its amount lets no round through; one torn after it costs that", () => {
    const [torn] = parseLedger("0.01");
    expect(torn).toMatchObject({ run: ANY_RUN, rho: Infinity });
    expect(() => permitSpend([torn!], entry(), { epsilon: 1e6, delta: 0.1 })).toThrow(
      /without bound in 1 rounds/,
    );
    expect(parseLedger("0.01 run")).toMatchObject([{ run: ANY_RUN, rho: 0.01 }]);
    expect(parseLedger("0.01 run-a 3")).toMatchObject([{ run: "run-a", rho: 0.01 }]);
  });

  test.each([
    "",
    "0.01 run-a 1 0",
    "0.01 run-a 1 0 1e-5 x",
    "-0.01 run-a 1 0 1e-5",
    "0.01 run/a 1 0 1e-5",
    "0.01 run-a 1.5 0 1e-5",
    "NaN run-a 1 0 1e-5",
    "1e999 run-a 1 0 1e-5",
    "0.01  run-a 1 0 1e-5",
  ])("a line that is no entry is refused by its number: %j", (line) => {
    const read = () => parseLedger(`${formatEntry(entry())}${line}\n${formatEntry(entry())}`);
    expect(read).toThrow(/^ledger, line 2: expected rho run round attempt delta/);
    expect(read).toThrow(expect.objectContaining({ code: "storage" }));
  });

  test("nothing is written that could not be read again", () => {
    expect(() => formatEntry(entry({ run: "a b" }))).toThrow(/ledger entry/);
    expect(() => formatEntry(entry({ rho: Infinity }))).toThrow(/ledger entry/);
    expect(() => formatEntry(entry({ round: 1.5 }))).toThrow(/ledger entry/);
  });
});
