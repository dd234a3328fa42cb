import { expect, test } from "vitest";
import { LOOK_MS, Throughput } from "../../src/grpc/throughput.ts";

test("what followed a PING had all the time since it was sent, not since its answer", () => {
  const link = new Throughput(0, 0);
  const first = link.mark(0, 0);
  link.confirm(first, LOOK_MS);
  // Written behind the first, and all of it there before its answer.
  const second = link.mark(LOOK_MS, 25_000);
  link.confirm(second, LOOK_MS + 1);
  expect(link.arrivesWithinMs(link.mark(LOOK_MS + 1, 50_000))).toBeGreaterThan(LOOK_MS);
});
