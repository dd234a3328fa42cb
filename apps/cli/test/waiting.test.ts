import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { saidWhileWaiting } from "../src/owner.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function said(addresses: readonly string[], answersAfterMs: number): string[] {
  const lines: string[] = [];
  const waits = saidWhileWaiting(addresses, (line) => lines.push(line));
  vi.advanceTimersByTime(answersAfterMs);
  waits.over();
  vi.advanceTimersByTime(60_000);
  return lines;
}

test("a command that waits for whoever leads says so, once, and to whom it looks", () => {
  expect(said(["a:1", "b:2"], 10_000)).toEqual(["none of a:1, b:2 has answered as the leader yet; waiting"]);
  expect(said(["a:1", "b:2"], 100)).toEqual([]);
  expect(said(["a:1"], 10_000)).toEqual([]);
});
