import { expect, test } from "vitest";
import { isSilent, isWhole, loseOne, loseTooMany } from "../../claims/support/round/lose.ts";
import { withHouse } from "../../claims/support/round/workplace.ts";

const ROWS = { train: 32, heldOut: 16 };
const FOUR = new Map(["site-a", "site-b", "site-c", "site-d"].map((site) => [site, ROWS]));

/** The claim round/drop has every stage; here are one that costs a mask key and one that costs the round. */
test("a site killed with its keys out leaves the exact sum of three; two of four leave nothing", {
  timeout: 120_000,
}, async () => {
  await withHouse({ sites: FOUR }, async (house) => {
    const death = { stage: "share", when: "after" } as const;
    const survived = await loseOne(house, { death, seed: 1 });
    expect(survived, JSON.stringify(survived)).toSatisfy(() => isWhole(survived, death));
    await house.revive();

    const stopped = await loseTooMany(house, {
      name: "two of four",
      change: {},
      dead: ["site-c", "site-d"],
      death: { stage: "upload", when: "after" },
    });
    expect(stopped.reason).toMatch(/below threshold: 2 of 4 devices attested/);
    expect(isSilent(stopped)).toBe(true);
  });
});
