import { create } from "@tutti/wire/message";
import { DeliverySchema } from "@tutti/wire/secagg";
import { describe, expect, test } from "vitest";
import { advertise } from "../src/device/advertise.ts";
import { attest } from "../src/device/attest.ts";
import { mask } from "../src/device/mask.ts";
import { reveal } from "../src/device/reveal.ts";
import { share } from "../src/device/share.ts";
import type { Attested, Masked } from "../src/device/state.ts";
import { receive } from "../src/server/session.ts";
import { close, during, memberOf, terms, upTo, wordAs } from "./federation.ts";

import { ALL, attestAll, attestationsOf, refusal, signedBy, survivorsOf } from "./malice.ts";

// docs/threat-model.md, Attacks, by number: a malicious coordinator against the device's own functions: what
// it does in a session. Each expectation names the check that stops it.

describe("1: different survivors to different devices", () => {
  test("a signature on another U3 is not one on this device's statement", async () => {
    const play = await upTo("attest", 5);
    const some = attestAll(play, ["d00", "d01"], ALL);
    const others = attestAll(play, ["d02", "d03"], ALL.slice(0, 4));
    const state = play.states.get("d00")!;
    expect(() => reveal(state, attestationsOf(play, [...some, ...others]))).toThrow(
      "expected d02's signature on what this device signed",
    );
    expect(() => reveal(state, attestationsOf(play, some))).toThrow("expected at least 4, got 2");
  });
});

describe("2: both shares of one device", () => {
  test("duplicate or unordered lists, and lists with strangers, are no sets", async () => {
    const play = await upTo("attest", 5);
    const state = play.states.get("d00")!;
    const trying = (devices: string[]) => () => attest(state, survivorsOf(play, devices));
    expect(trying(["d00", "d00", "d01", "d02", "d03"])).toThrow("each name once");
    expect(trying(["d01", "d00", "d02", "d03"])).toThrow("each name once");
    expect(trying(["d00", "d01", "d02", "d99"])).toThrow("devices that shared");
    expect(trying(["d01", "d02", "d03", "d04"])).toThrow("this device among them");
  });

  test("a second U3 is refused once one is signed, also to an older state", async () => {
    const play = await upTo("attest", 5);
    const before = play.states.get("d00")!;
    const first = attest(before, survivorsOf(play, ALL));
    const smaller = survivorsOf(play, ALL.slice(0, 4));
    expect(() => attest(before, smaller)).toThrow("attest by d00: expected the message it answered already");
    expect(() => attest(first.state, smaller)).toThrow("expected the message it answered already");
    expect(attest(before, survivorsOf(play, ALL)).message).toBe(first.message);
  });

  test("one answer per session: each sender once, seed or mask key by U3, no second request", async () => {
    const play = await upTo("attest", 5);
    const alive = ALL.slice(0, 4);
    const signed = attestAll(play, alive, alive);
    const before = play.states.get("d00") as Attested;
    const { message, state } = reveal(before, attestationsOf(play, signed));
    expect(message.shares.map(({ of, share: { case: kind } }) => `${of} ${kind}`)).toEqual(
      ALL.map((name) => `${name} ${alive.includes(name) ? "seed" : "maskKey"}`),
    );
    const reordered = attestationsOf(play, signed.toReversed());
    expect(() => reveal(before, reordered)).toThrow("expected the message it answered already");
    expect(() => reveal(state, reordered)).toThrow("expected the message it answered already");
    expect(reveal(before, attestationsOf(play, signed)).message).toBe(message);
    expect([...before.shares.values()].every(({ seedShare }) => seedShare.every((byte) => byte === 0))).toBe(
      true,
    );
  });

  test("nothing out of order: reveal before attest, mask before share, share after mask", async () => {
    const play = await upTo("attest", 5);
    const fresh = await upTo("share", 5);
    const attestations = attestationsOf(play, []);
    expect(() => reveal(play.states.get("d00")!, attestations)).toThrow("for a device that has attested");
    const delivery = create(DeliverySchema, { session: new Uint8Array(32), envelopes: [] });
    expect(() => mask(fresh.states.get("d00")!, delivery, new Uint32Array(5))).toThrow("that has shared");
    const roster = wordAs(fresh, "d00", "roster");
    await expect(share(play.states.get("d00")!, roster)).rejects.toThrow("the message it answered already");
  });

  test("a good signature of a member outside U3 does not count", async () => {
    const play = await upTo("attest", 5);
    const alive = ALL.slice(0, 4);
    const signed = attestAll(play, alive, alive);
    const state = play.states.get("d00") as Attested;
    const outside = ["d04", memberOf("d04").key.sign(state.statement)] as const;
    const mixed = attestationsOf(play, [...signed.slice(0, 3), outside]);
    expect(() => reveal(state, mixed)).toThrow("expected signatures of survivors");
  });

  test("one signature counts once", async () => {
    const play = await upTo("attest", 5);
    const signed = attestAll(play, ["d00", "d01"], ALL);
    const twice = attestationsOf(play, [...signed, ...signed]);
    expect(() => reveal(play.states.get("d00")!, twice)).toThrow("expected one signature of each");
  });
});

describe("7: replay", () => {
  test("keys signed for another attempt, round or run", async () => {
    for (const other of [{ attempt: 2 }, { round: 4 }, { run: "other" }]) {
      const old = signedBy(memberOf("d04"), {}, terms(other));
      expect(await refusal(({ members }) => members.splice(4, 1, old))).toContain(
        "its signature for this attempt",
      );
    }
  });

  test("envelopes, survivors, attestations of another session, also under this one's name", async () => {
    const old = await upTo("reveal", 5);
    const play = await upTo("mask", 5);
    const delivery = wordAs(play, "d00", "delivery");
    const state = play.states.get("d00")!;
    const words = play.inputs.get("d00")!;
    const stale = create(DeliverySchema, { ...delivery, session: old.session.sid! });
    expect(() => mask(state, stale, words)).toThrow("delivery: expected this session");
    const oldEnvelope = old.session.shared.get("d03")!.envelopes.find(({ to }) => to === "d00")!;
    const moved = delivery.envelopes.map((each) => (each.from === "d03" ? oldEnvelope : each));
    const masked = mask(state, create(DeliverySchema, { ...delivery, envelopes: moved }), words).state;
    expect(masked.unreadable).toEqual(["d03"]);
    expect(() => attest(masked, survivorsOf(old, ALL))).toThrow("survivors: expected this session");
    const attested = attest(masked, survivorsOf(play, ALL)).state;
    const signatures = [...old.session.attested].map(([name, { signature }]) => [name, signature] as const);
    expect(() => reveal(attested, attestationsOf(old, signatures))).toThrow(
      "attestations: expected this session",
    );
    expect(() => reveal(attested, attestationsOf(play, signatures))).toThrow("on what this device signed");
  });
});

describe("8: a vector after U3 is sealed", () => {
  test("is refused, and one already in is a repeat", async () => {
    const play = await upTo("mask", 5);
    await during(play, "mask", ALL.slice(0, 4));
    close(play);
    expect(() => receive(play.session, "d04", { stage: "upload" })).toThrow(
      "vector of d04: expected phase masking",
    );
    expect(receive(play.session, "d00", { stage: "upload" })).toBe(play.session);
    expect(wordAs(play, "d00", "survivors").devices).toEqual(ALL.slice(0, 4));
  });
});

describe("10: the same round summed twice over subsets", () => {
  test("who has answered for a round joins no other sum of it, not even one begun before", async () => {
    const play = await upTo("reveal", 5);
    const member = play.members.get("d00")!;
    const parallel = await upTo("reveal", 5, terms({ attempt: 2 }));
    const state = parallel.states.get("d00") as Attested;
    const sharing = { ...state, member };
    await during(play, "reveal", ["d00"]);
    expect(() => reveal(sharing, wordAs(parallel, "d00", "attestations"))).toThrow(
      "a round whose sum was not opened",
    );
    expect(() => advertise(terms({ attempt: 3 }), member)).toThrow("a round whose sum was not opened");
    expect(advertise(terms({ round: 4 }), member).state.stage).toBe("advertised");
  });

  test("two vectors under one mask", async () => {
    const play = await upTo("mask", 5);
    const state = play.states.get("d00")!;
    const delivery = wordAs(play, "d00", "delivery");
    const { packed } = mask(state, delivery, Uint32Array.of(1, 2, 3, 4, 5));
    expect(() => mask(state, delivery, Uint32Array.of(1, 2, 3, 4, 6))).toThrow(
      "the message it answered already",
    );
    expect(mask(state, delivery, Uint32Array.of(1, 2, 3, 4, 5)).packed).toBe(packed);
  });
});

describe("14: partial lists to isolate one device", () => {
  test("a smaller U2 to one device leaves it alone with its signature", async () => {
    const play = await upTo("mask", 5);
    const full = wordAs(play, "d00", "delivery");
    const without = (...left: string[]) =>
      create(DeliverySchema, {
        ...full,
        envelopes: full.envelopes.filter(({ from }) => !left.includes(from)),
      });
    const state = play.states.get("d00")!;
    const words = play.inputs.get("d00")!;
    expect(() => mask(state, without("d01", "d02"), words)).toThrow("expected at least 4 senders, got 3");
    expect(() => mask(state, without("d00"), words)).toThrow("this device's own envelope, got none");
    const alone: Masked = mask(state, without("d04"), words).state;
    play.states.set("d00", alone);
    await during(play, "mask", ALL.slice(1));
    const seen = ALL.slice(0, 4);
    const signed = attestAll(play, seen, seen);
    expect(() => reveal(play.states.get("d00")!, attestationsOf(play, signed))).toThrow("d01's signature");
    expect(() => reveal(play.states.get("d01")!, attestationsOf(play, signed))).toThrow("d00's signature");
  });

  test("envelopes addressed to others, from strangers, or twice from one", async () => {
    const play = await upTo("mask", 5);
    const { envelopes, session } = wordAs(play, "d00", "delivery");
    const foreign = wordAs(play, "d01", "delivery").envelopes[0]!;
    const trying = (list: typeof envelopes) => () =>
      mask(play.states.get("d00")!, create(DeliverySchema, { session, envelopes: list }), new Uint32Array(5));
    expect(trying([...envelopes, foreign])).toThrow("envelopes to this device");
    expect(trying([...envelopes, envelopes[2]!])).toThrow("one envelope from each");
    expect(trying([...envelopes, { ...envelopes[2]!, from: "d99" }])).toThrow("one from a stranger");
  });
});
