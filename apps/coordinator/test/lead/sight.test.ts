import { describe, expect, test } from "vitest";
import {
  LEASE_MS,
  LEFT_MS,
  look,
  MARGIN_MS,
  mayAsk,
  POLL_MS,
  pauseMs,
  RENEW_MS,
} from "../../src/lead/sight.ts";

const lease = { epoch: 3, holder: "a", address: "a:1", renewals: 5, leftMs: 2_000, left: false };

describe("what a standby sees of the lease", () => {
  test("one that goes on is left alone; one that is over may be asked for", () => {
    expect(mayAsk(look(null, lease, 0), 0)).toBeNull();
    expect(mayAsk(look(null, { ...lease, leftMs: 0 }, 0), 0)).toBe("over");
    expect(mayAsk(look(null, { ...lease, leftMs: -1 }, 0), 0)).toBe("over");
  });

  test("one that does not move is stuck, though the database's clock was set back by an hour", () => {
    const back = { ...lease, leftMs: 3_600_000 };
    let sight = look(null, back, 0);
    for (const nowMs of [500, 2_000, LEASE_MS + RENEW_MS]) {
      sight = look(sight, back, nowMs);
      expect(mayAsk(sight, nowMs)).toBeNull();
    }
    sight = look(sight, back, LEASE_MS + RENEW_MS + 1);
    expect(mayAsk(sight, LEASE_MS + RENEW_MS + 1)).toBe("stuck");
  });

  test("one whose holder left the database may be asked for once it would have been renewed", () => {
    const left = { ...lease, left: true };
    const due = LEASE_MS - LEFT_MS;
    expect(mayAsk(look(null, { ...left, leftMs: due + 1 }, 0), 0)).toBeNull();
    expect(mayAsk(look(null, { ...left, leftMs: due }, 0), 0)).toBe("left");
    expect(mayAsk(look(null, { ...lease, leftMs: due }, 0), 0)).toBeNull();
    expect(pauseMs(look(null, { ...left, leftMs: due + 80 }, 0))).toBe(80);
    // A holder whose connection broke has a new one, and renewed over it, before that.
    expect(RENEW_MS).toBeLessThan(LEFT_MS);
  });

  test("each renewal and each new leader is a move", () => {
    const still = look(null, lease, 0);
    expect(look(still, lease, 9_000).sinceMs).toBe(0);
    expect(look(still, { ...lease, renewals: 6 }, 9_000).sinceMs).toBe(9_000);
    expect(look(still, { ...lease, epoch: 4 }, 9_000).sinceMs).toBe(9_000);
  });

  test("the next look comes when the lease may be over, and soon in any case", () => {
    expect(pauseMs(look(null, lease, 0))).toBe(POLL_MS);
    expect(pauseMs(look(null, { ...lease, leftMs: 80 }, 0))).toBe(80);
    expect(pauseMs(look(null, { ...lease, leftMs: 0 }, 0))).toBeGreaterThan(0);
  });

  test("a renewal may fail once, and a leader stops before its lease is over", () => {
    expect(2 * RENEW_MS + MARGIN_MS).toBeLessThan(LEASE_MS);
    // docs/reliability.md, Replicas: from the last renewal to the next leader, below five seconds.
    expect(LEASE_MS + POLL_MS).toBeLessThan(4_000);
  });
});
