import { LONGEST_DELAY_MS } from "@tutti/client-sdk/backoff";
import { RECONNECT_MS } from "@tutti/coordinator/drive/driver";
import { expect, test } from "vitest";
import { isResumed, killed, undisturbedAdapter } from "../../claims/support/round/resume.ts";
import { withHouse } from "../../claims/support/round/workplace.ts";

const ROWS = { train: 32, heldOut: 16 };
const THREE = new Map(["site-a", "site-b", "site-c"].map((site) => [site, ROWS]));

/** The claim round/crash has every upload and moment; here is one between commit and acknowledgement. */
test("a coordinator killed before it could acknowledge an upload finishes with the same bytes", {
  timeout: 120_000,
}, async () => {
  await withHouse({ sites: THREE, inTurn: true }, async (house) => {
    const undisturbed = await undisturbedAdapter(house);
    const point = { when: "committed", uploads: 2, awayMs: 0 } as const;
    const resumed = await killed(house, { ...point, undisturbed });
    expect(resumed, JSON.stringify(resumed)).toSatisfy(() => isResumed(resumed, { ...point, sites: 3 }));
  });
});

test("a coordinator that came back waits longer than any device does between two tries", () => {
  expect(RECONNECT_MS).toBeGreaterThan(LONGEST_DELAY_MS);
});
