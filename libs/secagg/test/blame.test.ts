import { createHash } from "node:crypto";
import { unpackBits } from "@tutti/kernels/pack";
import { addInto } from "@tutti/kernels/ring";
import { create } from "@tutti/wire/message";
import { type RevealRequest, ShareRequestSchema } from "@tutti/wire/secagg";
import { describe, expect, test } from "vitest";
import { mask } from "../src/device/mask.ts";
import { reveal } from "../src/device/reveal.ts";
import { share } from "../src/device/share.ts";
import { advance, receive, unmask } from "../src/server/session.ts";
import { close, during, names, type Play, plainSum, steps, terms, upTo, wordAs } from "./federation.ts";

// docs/attacks.md, attack 13: malicious devices against the coordinator's own functions, and against
// each other.

const ALL = names(6);

/**
 * A session of six (t = 4) in which d05 vanishes before its vector, up to the reveal of those that are left.
 */
async function toReveal(spare: number): Promise<Play> {
  const play = await upTo("mask", 6);
  play.session = { ...play.session, trust: { ...play.session.trust, spareShares: spare } };
  for (const stage of ["mask", "attest"] as const) {
    await during(play, stage, ALL.slice(0, 5));
    close(play);
  }
  return play;
}

/** One device's honest answer with something changed. */
function lie(play: Play, device: string, change: (request: RevealRequest) => void): void {
  const { message } = reveal(play.states.get(device)!, wordAs(play, device, "attestations"));
  const request = structuredClone(message);
  change(request);
  play.session = receive(play.session, device, { stage: "reveal", request });
}

const flip = (value: Uint8Array | undefined) => {
  value![0]! ^= 1;
};
const flipAll = ({ shares }: RevealRequest) => {
  for (const { share: part } of shares) flip(part.value);
};

describe("13: bad shares", () => {
  test("one liar among five is outvoted, named for every share, and the sum is right", async () => {
    const play = await toReveal(1);
    lie(play, "d00", flipAll);
    for (const device of ALL.slice(1, 5)) steps.reveal(play, device);
    expect(play.session.phase).toBe("complete");
    const blamed: string[] = [];
    const sum = await unmask(play.session, play.sum, {
      onLiar: (liar, of) => blamed.push(`${liar} on ${of}`),
    });
    expect(sum).toEqual(plainSum(play, ALL.slice(0, 5)));
    // After the first lie its author comes last, so nobody searches for it, or needs to accuse it, again.
    expect(blamed).toEqual(["d00 on d00"]);
  });

  test("a share with another's x is a lie like any other", async () => {
    const play = await toReveal(1);
    steps.reveal(play, "d01");
    const others = play.session.revealed.get("d01")!.shares;
    lie(play, "d00", ({ shares }) => {
      for (const [i, { share: part }] of shares.entries()) part.value![32] = others[i]!.share.value![32]!;
    });
    for (const device of ALL.slice(2, 5)) steps.reveal(play, device);
    expect(await unmask(play.session, play.sum)).toEqual(plainSum(play, ALL.slice(0, 5)));
  });

  test("without spares a lie spoils the sum, by name, and no wrong sum comes out", async () => {
    const play = await toReveal(0);
    lie(play, "d00", flipAll);
    const { message } = reveal(play.states.get("d04")!, wordAs(play, "d04", "attestations"));
    for (const device of ALL.slice(1, 4)) steps.reveal(play, device);
    expect(play.session.phase).toBe("complete");
    await expect(unmask(play.session, play.sum)).rejects.toThrow(
      "seed of d00: expected 4 of 4 shares that fit",
    );
    // A spare that comes after completion still mends it.
    play.session = receive(play.session, "d04", { stage: "reveal", request: message });
    expect(await unmask(play.session, play.sum)).toEqual(plainSum(play, ALL.slice(0, 5)));
  });

  test("who commits to another seed than it shares is named: no shares fit", async () => {
    const play = await upTo("share", 6);
    await during(play, "share", ALL.slice(1));
    const { state, message } = await share(play.states.get("d00")!, wordAs(play, "d00", "roster"));
    play.states.set("d00", state);
    const commitment = createHash("sha256").update("another").digest();
    const request = create(ShareRequestSchema, { ...message, commitment: new Uint8Array(commitment) });
    play.session = receive(play.session, "d00", { stage: "share", request });
    close(play);
    for (const stage of ["mask", "attest", "reveal"] as const) {
      await during(play, stage, ALL);
      if (play.session.phase !== "complete") close(play);
    }
    await expect(unmask(play.session, play.sum)).rejects.toThrow(
      "seed of d00: expected 4 of 6 shares that fit what d00 published, got none that do: d00 or more than 2",
    );
  });

  test("truncated, doubled or wrong-kind shares cost their sender its answer, and nobody else", async () => {
    const play = await toReveal(0);
    const bad: [(request: RevealRequest) => void, string][] = [
      [({ shares }) => shares.push(shares[0]!), "one share of each sender"],
      [({ shares }) => void Object.assign(shares[0]!, { of: "d99" }), "one share of each sender"],
      [
        ({ shares }) => void Object.assign(shares[0]!.share, { case: "maskKey" }),
        "expected a seed share of d00",
      ],
      [
        ({ shares }) => void Object.assign(shares[5]!.share, { case: "seed" }),
        "expected a maskKey share of d05",
      ],
      [
        ({ shares }) => void Object.assign(shares[0]!.share, { value: new Uint8Array(32) }),
        "expected 33 bytes, got 32",
      ],
    ];
    for (const [change, why] of bad) expect(() => lie(play, "d00", change)).toThrow(why);
    for (const device of ALL.slice(1, 5)) steps.reveal(play, device);
    expect(await unmask(play.session, play.sum)).toEqual(plainSum(play, ALL.slice(0, 5)));
  });
});

describe("13: bad envelopes", () => {
  const tampers: [string, (sealed: Uint8Array) => Uint8Array][] = [
    ["flipped", (sealed) => sealed.map((byte, i) => (i === 40 ? byte ^ 1 : byte))],
    ["truncated", (sealed) => sealed.subarray(0, 30)],
    ["empty", () => new Uint8Array(0)],
    ["too long", () => new Uint8Array(600)],
  ];
  test.each(tampers)(
    "%s: its reader names the sender, keeps silent about its share, and the sum opens",
    async (_, tamper) => {
      const play = await upTo("mask", 6);
      const delivery = structuredClone(wordAs(play, "d00", "delivery"));
      delivery.envelopes[3]!.sealed = tamper(delivery.envelopes[3]!.sealed);
      const { state, packed } = mask(play.states.get("d00")!, delivery, play.inputs.get("d00")!);
      expect(state.unreadable).toEqual(["d03"]);
      await goOn(play, { state, packed });
      for (const device of ALL) steps.reveal(play, device);
      expect(play.session.revealed.get("d00")!.shares.map(({ of }) => of)).toEqual([
        "d00",
        "d01",
        "d02",
        "d04",
        "d05",
      ]);
      expect(await unmask(play.session, play.sum)).toEqual(plainSum(play, ALL));
    },
  );

  test("swapped between two receivers, neither opens", async () => {
    const play = await upTo("mask", 6);
    const delivery = structuredClone(wordAs(play, "d00", "delivery"));
    const swapped = wordAs(play, "d01", "delivery").envelopes.find(({ from }) => from === "d03")!;
    delivery.envelopes[3]!.sealed = swapped.sealed;
    const { state } = mask(play.states.get("d00")!, delivery, play.inputs.get("d00")!);
    expect(state.unreadable).toEqual(["d03"]);
  });

  test("shares not addressed to every member cost their sender the session, and nobody else", async () => {
    const play = await upTo("share", 6);
    const { message } = await share(play.states.get("d00")!, wordAs(play, "d00", "roster"));
    const trying =
      (envelopes: typeof message.envelopes, more = {}) =>
      () =>
        receive(play.session, "d00", {
          stage: "share",
          request: create(ShareRequestSchema, { ...message, envelopes, ...more }),
        });
    const [first, ...rest] = message.envelopes;
    expect(trying(rest)).toThrow("expected 6 envelopes, got 5");
    expect(trying([...rest, rest[0]!])).toThrow("one to each holder");
    expect(trying([...rest, { ...first!, to: "d99" }])).toThrow("one to each holder");
    expect(trying([...rest, { ...first!, from: "d01" }])).toThrow("envelopes from itself");
    expect(trying([...rest, { ...first!, sealed: new Uint8Array(257) }])).toThrow("at most 256 bytes");
    expect(trying(message.envelopes, { commitment: new Uint8Array(31) })).toThrow(
      "commitment of d00: expected 32",
    );
    expect(trying(message.envelopes, { session: new Uint8Array(32) })).toThrow("expected this session");
    await during(play, "share", ALL.slice(1));
    expect(advance(play.session).senders).toEqual(ALL.slice(1));
  });
});

/** With d00's answer in, everybody else's too, up to the last stage. */
async function goOn(play: Play, { state, packed }: ReturnType<typeof mask>): Promise<void> {
  play.states.set("d00", state);
  addInto(play.sum, unpackBits(packed, terms().bits, terms().length));
  play.session = receive(play.session, "d00", { stage: "upload" });
  await during(play, "mask", ALL.slice(1));
  close(play);
  await during(play, "attest", ALL);
  close(play);
}
