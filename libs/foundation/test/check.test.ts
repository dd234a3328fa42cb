import { describe, expect, test } from "vitest";
import { assert, checkBytes, checkInteger, demand, unreachable } from "../src/check.ts";
import { asFault, Fault } from "../src/fault.ts";
import { examine } from "../src/finding.ts";

describe("Fault", () => {
  test("the message reads what: expected X, got Y. Do Z.", () => {
    const full = new Fault("bad-input", "rank", {
      expected: "1..256",
      got: "0",
      todo: "Choose a larger one",
    });
    expect(full.message).toBe("rank: expected 1..256, got 0. Choose a larger one");
    expect(new Fault("deadline", "round 3").message).toBe("round 3");
    expect(new Fault("refused", "task", { got: "no signature" }).message).toBe("task: got no signature");
    expect(new Fault("refused", "task", { todo: "Ask its owner" }).message).toBe("task. Ask its owner");
    // What it quotes may have an end of its own.
    const quoting = new Fault("unavailable", "b", { got: "a: is it there?", todo: "Look" });
    expect(quoting.message).toBe("b: got a: is it there? Look");
    expect([full.code, full.what, full.name, full instanceof Error]).toEqual([
      "bad-input",
      "rank",
      "Fault",
      true,
    ]);
  });

  test("a cause is kept, and asFault wraps what is not a Fault, once", () => {
    const cause = new TypeError("boom");
    const wrapped = asFault(cause, "storage");
    expect([wrapped.code, wrapped.message, wrapped.cause]).toEqual(["storage", "boom", cause]);
    expect(asFault(wrapped)).toBe(wrapped);
    expect(asFault("text").message).toBe("text");
    expect(asFault(cause).code).toBe("internal");
    expect("cause" in new Fault("refused", "x")).toBe(false);
  });
});

describe("door checks", () => {
  test("checkBytes gives the bytes, or says what came", () => {
    const key = new Uint8Array(32);
    expect(checkBytes("share key", key, 32)).toBe(key);
    expect(() => checkBytes("share key", key.subarray(1), 32)).toThrow(
      "share key: expected 32 bytes, got 31",
    );
    expect(() => checkBytes("share key", null, 32)).toThrow("got null");
    expect(() => checkBytes("share key", [1], 1)).toThrow("got object");
    expect(() => checkBytes("key", key, 1, "refused")).toThrow(expect.objectContaining({ code: "refused" }));
  });

  test("checkInteger takes its ends and nothing beyond or between", () => {
    for (const good of [-1, 0, 5]) expect(checkInteger("n", good, [-1, 5])).toBe(good);
    for (const bad of [-2, 6, 0.5, Number.NaN, "3", null, 3n]) {
      expect(() => checkInteger("n", bad, [-1, 5])).toThrow("n: expected an integer in -1..5, got ");
    }
  });

  test("demand throws the fault it is given; assert and unreachable are bugs, not Faults", () => {
    const fault = new Fault("refused", "no");
    expect(() => demand(false, () => fault)).toThrow(fault);
    demand(true, () => expect.unreachable());
    const caught = (act: () => void) => {
      try {
        act();
      } catch (error) {
        return error;
      }
      return undefined;
    };
    expect(caught(() => assert(0, "one"))).toEqual(new Error("invariant broken: one"));
    expect(caught(() => unreachable("x" as never))).not.toBeInstanceOf(Fault);
    expect(caught(() => assert(1, "one"))).toBeUndefined();
  });
});

test("a look at one thing says what is wrong apart from what to do, whatever that ends with", async () => {
  for (const got of ["nothing", "nothing: is it there?"]) {
    const fault = new Fault("unavailable", "b", { got, todo: "Look" });
    const found = await examine("it", () => Promise.reject(fault));
    expect(found).toEqual({ what: "it", state: "fail", says: `b: got ${got}`, todo: "Look" });
  }
});
