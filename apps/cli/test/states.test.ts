import { Fault } from "@tutti/foundation/fault";
import { expect, test } from "vitest";
import { States } from "../src/states.ts";

const away = (got: string) => {
  const because = new Fault("unavailable", "the coordinator", { got });
  return { kind: "state", state: "reconnecting", because } as const;
};
const back = { kind: "state", state: "connected" } as const;

function states() {
  let ms = 0;
  const told = new States({
    nowMs: () => ms,
    wallMs: () => ms,
    sleep: async () => {},
    turn: async () => {},
  });
  /** As many attempts, one a second; what was said of them. */
  const attempts = (count: number, ...gots: string[]) => {
    const lines: (string | null)[] = [];
    for (let at = 0; at < count; at++) {
      lines.push(told.lineOf(away(gots[at % gots.length]!)));
      ms += 1_000;
    }
    return lines.filter((line) => line !== null);
  };
  return { told, attempts };
}

test("the same reason is said once, then after minutes with how often, and once it is back that", () => {
  const { told, attempts } = states();
  const line = "reconnecting: the coordinator: got nobody";
  expect(attempts(290, "nobody")).toEqual([line]);
  expect(attempts(20, "nobody")).toEqual([`${line} (300 more times)`]);
  expect(told.lineOf(back)).toBe("connected");
  expect(attempts(5, "nobody")).toEqual([line]);
});

test("another reason is said at once; two that take turns are each said once", () => {
  const { attempts } = states();
  expect(attempts(100, "nobody", "a standby")).toHaveLength(2);
  expect(attempts(10, "no network")).toHaveLength(1);
  expect(attempts(100, "nobody", "a standby")).toEqual([]);
  const waits = Array.from({ length: 50 }, (_, at) => `no answer in ${at}.${at * 7} s`);
  expect(attempts(50, ...waits)).toHaveLength(1);
});

test("what is remembered is bounded", () => {
  const { attempts } = states();
  const letters = Array.from("abcdefghijklmnopqrst");
  expect(attempts(20, ...letters)).toHaveLength(20);
  expect(attempts(4, ...letters.slice(0, 4))).toHaveLength(4);
});
