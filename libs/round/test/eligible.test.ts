import type { Eligibility } from "@tutti/plan/eligibility";
import { type DeviceState, DeviceStateSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { describe, expect, test } from "vitest";
import { judge, type Past } from "../src/eligible.ts";

const says = (state: Partial<Omit<DeviceState, "$typeName">>, labels: Record<string, string> = {}) => ({
  labels,
  state: create(DeviceStateSchema, state),
});
const now = { past: undefined, round: 5, wallMs: 1_000_000 };
const why = (wanted: Eligibility, facts: Parameters<typeof judge>[1]) => judge(wanted, facts, now).because;

describe("whom a run asks", () => {
  test("without conditions: everybody", () => {
    expect(judge(undefined, { labels: {}, state: undefined }, now).standing).toBe("yes");
    expect(judge({}, { labels: {}, state: undefined }, now).standing).toBe("yes");
  });

  test("labels, as the certificate has them", () => {
    const wanted = { labels: { region: ["north", "south"], tier: "gold" } };
    expect(why(wanted, says({}, { region: "south", tier: "gold" }))).toBe("");
    expect(why(wanted, says({}, { region: "west", tier: "gold" }))).toBe("label region is another");
    expect(why(wanted, says({}, { region: "north" }))).toBe("label tier is another");
    expect(why({ labels: { toString: "x" } }, says({}))).toBe("label toString is another");
  });

  test("what a device does not say of itself it does not meet", () => {
    const wanted = { charging: true, unmetered: true, idle: true };
    expect(why(wanted, { labels: {}, state: undefined })).toBe("not known to be charging");
    expect(why(wanted, says({ charging: false }))).toBe("not charging");
    expect(why(wanted, says({ charging: true }))).toBe("not known to be on an unmetered connection");
    expect(why(wanted, says({ charging: true, unmetered: true, idle: false }))).toBe("not idle");
    expect(why(wanted, says({ charging: true, unmetered: true, idle: true }))).toBe("");
    expect(why({ charging: false }, { labels: {}, state: undefined })).toBe("");
  });

  test("SDK and engines", () => {
    expect(why({ sdk: ">=0.2.0" }, says({ sdk: "0.1.9" }))).toBe("SDK older than 0.2.0");
    expect(why({ sdk: ">=0.2.0" }, says({ sdk: "0.10.0" }))).toBe("");
    expect(why({ sdk: ">=0.2.0" }, says({ sdk: "new" }))).toBe("SDK older than 0.2.0");
    expect(why({ engines: ["onnxruntime"] }, says({ engines: ["tfjs"] }))).toBe("no engine onnxruntime");
    expect(why({ engines: ["onnxruntime", "tfjs"] }, says({ engines: ["tfjs"] }))).toBe("");
  });
});

describe("how often one takes part", () => {
  const judged = (participation: NonNullable<Eligibility["participation"]>, past: Past, round = 5) =>
    judge({ participation }, says({}), { past, round, wallMs: 1_000_000 });
  const past = { rounds: 2, lastRound: 3, lastMs: 999_000 };

  test("rounds in all", () => {
    expect(judged({ maxRounds: 3 }, past).standing).toBe("yes");
    expect(judged({ maxRounds: 2 }, past).standing).toBe("no");
    // Another attempt at a round that it was in is not another round.
    expect(judged({ maxRounds: 2 }, past, 3).standing).toBe("yes");
  });

  test("rounds between two", () => {
    expect(judged({ minRoundsBetween: 1 }, past).standing).toBe("yes");
    expect(judged({ minRoundsBetween: 2 }, past)).toMatchObject({ standing: "no", fromRound: 6 });
  });

  test("time between two, also when the clock was set back", () => {
    expect(judged({ everyMs: 1_000 }, past).standing).toBe("yes");
    expect(judged({ everyMs: 5_000 }, past)).toMatchObject({ standing: "later", fromMs: 1_004_000 });
    expect(judged({ everyMs: 5_000 }, { ...past, lastMs: 2_000_000 }).standing).toBe("yes");
  });
});
