import { describe, expect, test } from "vitest";
import { type Check, type VerifyAll, verifyAhead } from "../src/device/ahead.ts";
import { reveal } from "../src/device/reveal.ts";
import { share } from "../src/device/share.ts";
import { random, upTo, wordAs } from "./federation.ts";
import { nativeVerify } from "./native.ts";

/** A platform that verifies later, and never when asked for one. */
const later: VerifyAll = async (checks) =>
  checks.map(({ publicKey, message, signature }) => nativeVerify(publicKey, message, signature));

describe("signatures verified ahead, where a platform verifies asynchronously", () => {
  test("each signature of a roster is asked for once, and the stage goes on by the verdicts", async () => {
    const play = await upTo("share", 5);
    const message = wordAs(play, "d00", "roster");
    const asked: Check[] = [];
    const ahead = await verifyAhead(play.states.get("d00")!, { kind: "roster", message }, async (checks) => {
      asked.push(...checks);
      return later(checks);
    });
    // Two links of each certificate, and the session's keys.
    expect(asked).toHaveLength(3 * 5);
    expect((await share(ahead, message)).state.stage).toBe("shared");
  });

  test("a bad signature among good ones is refused by name, wherever it stands", async () => {
    const play = await upTo("share", 5);
    for (const at of [1, 2, 4]) {
      const message = structuredClone(wordAs(play, "d00", "roster"));
      message.members[at]!.signature = random.bytes(64);
      const ahead = await verifyAhead(play.states.get("d00")!, { kind: "roster", message }, later);
      await expect(share(ahead, message)).rejects.toThrow(`keys of d0${at}: expected its signature`);
    }
  });

  test("verdicts on one word serve no other one", async () => {
    const play = await upTo("reveal", 5);
    const message = wordAs(play, "d00", "attestations");
    const state = play.states.get("d00")!;
    const ahead = await verifyAhead(state, { kind: "attestations", message }, later);
    const other = structuredClone(message);
    other.signed[1]!.signature = random.bytes(64);
    expect(() => reveal(ahead, other)).toThrow("d01's signature");
    const fresh = await verifyAhead(state, { kind: "attestations", message }, later);
    expect(reveal(fresh, message).state.stage).toBe("revealed");
  });

  test("what is wrong beside the signatures is refused before any is verified", async () => {
    const play = await upTo("share", 5);
    const message = { ...structuredClone(wordAs(play, "d00", "roster")), threshold: 3 };
    const never: VerifyAll = async () => Promise.reject(new Error("asked"));
    await expect(verifyAhead(play.states.get("d00")!, { kind: "roster", message }, never)).rejects.toThrow(
      "threshold: expected",
    );
  });
});
