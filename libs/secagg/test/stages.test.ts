import { describe, expect, test } from "vitest";
import { advertise } from "../src/device/advertise.ts";
import { erase } from "../src/device/erase.ts";
import { mask } from "../src/device/mask.ts";
import { share } from "../src/device/share.ts";
import type { Advertised, Shared } from "../src/device/state.ts";
import {
  advance,
  openSession,
  receive,
  type ServerSession,
  unmask,
  waitingFor,
  wordFor,
} from "../src/server/session.ts";
import {
  begin,
  close,
  during,
  memberOf,
  NOW_S,
  names,
  plainSum,
  played,
  random,
  TRUST,
  terms,
  upTo,
  wordAs,
} from "./federation.ts";

const ALL = names(5);

describe("a device's session", () => {
  test("a repeat gets the same message, and concurrent repeats one set of shares", async () => {
    const play = await upTo("share", 5);
    const state = play.states.get("d00")!;
    const roster = wordAs(play, "d00", "roster");
    const [first, second] = await Promise.all([share(state, roster), share(state, structuredClone(roster))]);
    expect(second.message).toBe(first.message);
    expect((await share(first.state, roster)).message).toBe(first.message);
  });

  test("a refused roster leaves the stage open for the right one", async () => {
    const play = await upTo("share", 5);
    const state = play.states.get("d00")!;
    const roster = wordAs(play, "d00", "roster");
    const wrong = { ...structuredClone(roster), threshold: 3 };
    await expect(share(state, wrong)).rejects.toThrow("threshold");
    expect((await share(state, roster)).state.stage).toBe("shared");
  });

  test("so does a refusal that comes later, from keys that a platform agrees on asynchronously", async () => {
    const play = await upTo("share", 5);
    const state = play.states.get("d00")!;
    const roster = wordAs(play, "d00", "roster");
    const agreeAll = async (_: Uint8Array, keys: readonly Uint8Array[]) => keys.map(() => null);
    const broken = { ...state, member: { ...state.member, agreeAll } };
    await expect(share(broken, roster)).rejects.toThrow("an X25519 key of full order");
    expect((await share(state, roster)).state.stage).toBe("shared");
  });

  test("secrets go as soon as no later stage needs them", async () => {
    const play = await upTo("mask", 5);
    const shared = play.states.get("d00") as Shared;
    const zero = (bytes: Uint8Array) => bytes.every((byte) => byte === 0);
    const fresh = await upTo("share", 5);
    const advertised = fresh.states.get("d00") as Advertised;
    expect(zero(advertised.maskKeys.secretKey)).toBe(false);
    await share(advertised, wordAs(fresh, "d00", "roster"));
    expect(zero(advertised.maskKeys.secretKey) && zero(advertised.envelopeKeys.secretKey)).toBe(true);
    expect(zero(shared.seed)).toBe(false);
    mask(shared, wordAs(play, "d00", "delivery"), play.inputs.get("d00")!);
    expect(zero(shared.seed) && [...shared.pairKeys.values(), ...shared.openers.values()].every(zero)).toBe(
      true,
    );
  });

  test("after erase nothing is left and nothing is answered", async () => {
    const play = await upTo("attest", 5);
    const state = play.states.get("d00")!;
    const secrets = [...state.vault.secrets];
    expect(secrets.length).toBeGreaterThan(0);
    erase(state);
    expect(secrets.every((secret) => secret.every((byte) => byte === 0))).toBe(true);
    await expect(during(play, "attest", ["d00"])).rejects.toThrow("one that was erased");
  });

  test("words outside the ring or of another length are refused; the caller's stay as they are", async () => {
    const play = await upTo("mask", 5);
    const state = play.states.get("d00")!;
    const delivery = wordAs(play, "d00", "delivery");
    expect(() => mask(state, delivery, new Uint32Array(6))).toThrow("vector: expected 5 words, got 6");
    expect(() => mask(state, delivery, Uint32Array.of(0, 0, 2 ** 20, 0, 0))).toThrow("a larger one at 2");
    const words = Uint32Array.of(1, 2, 3, 4, 5);
    const { packed } = mask(state, delivery, words);
    expect([...words]).toEqual([1, 2, 3, 4, 5]);
    expect(packed.length).toBe(Math.ceil((20 * 5) / 8));
  });

  test("a device with another's certificate, or an expired one, finds out before it sends anything", () => {
    const member = memberOf("d00");
    const other = { ...member, certificate: memberOf("d01").certificate };
    expect(() => advertise(terms(), other)).toThrow(
      "certificate of d00: expected its own name and key, got d01",
    );
    expect(() => advertise(terms(), { ...member, nowS: NOW_S + 5000 })).toThrow("still valid");
    expect(() => advertise({ ...terms(), plain: true }, member)).toThrow("expected a masked sum");
    expect(() => advertise({ ...terms(), bits: 33 }, member)).toThrow("1..32");
  });
});

describe("the coordinator's session", () => {
  test("tells each device what it needs, and nothing once it has answered", async () => {
    const members = new Set(ALL);
    const play = begin(5);
    play.session = openSession(terms(), { ...TRUST, members });
    expect(waitingFor(play.session)).toEqual(ALL);
    expect(wordFor(play.session, "d00")?.kind).toBe("open");
    expect(wordFor(play.session, "d99")).toBeNull();
    await during(play, "advertise", ALL.slice(0, 4));
    expect(waitingFor(play.session)).toEqual(["d04"]);
    expect(wordFor(play.session, "d00")).toBeNull();
    close(play);
    expect(wordFor(play.session, "d04")).toBeNull();
    await during(play, "share", ["d00", "d01"]);
    expect(waitingFor(play.session)).toEqual(["d02", "d03"]);
    expect(wordFor(play.session, "d02")).toEqual(wordFor(play.session, "d02"));
  });

  test("a device outside the members is refused", () => {
    const session = openSession(terms(), { ...TRUST, members: new Set(["d01"]) });
    const { message } = advertise(terms(), memberOf("d00"));
    expect(() => receive(session, "d00", { stage: "advertise", advertisement: message })).toThrow(
      "keys of d00",
    );
  });

  test("another's certificate is refused", () => {
    const session = openSession(terms(), TRUST);
    const { message } = advertise(terms(), memberOf("d01"));
    expect(() => receive(session, "d00", { stage: "advertise", advertisement: message })).toThrow(
      "got that of d01",
    );
  });

  test("a repeat is the same session, in any later phase; another message is a conflict", async () => {
    const play = await played(5);
    const { session } = play;
    const again = (at: ServerSession) => {
      for (const [device, { advertisement }] of at.advertised)
        expect(
          receive(at, device, { stage: "advertise", advertisement: structuredClone(advertisement) }),
        ).toBe(at);
      for (const [device, request] of at.shared)
        expect(receive(at, device, { stage: "share", request })).toBe(at);
      for (const device of at.uploaded) expect(receive(at, device, { stage: "upload" })).toBe(at);
      for (const [device, request] of at.attested)
        expect(receive(at, device, { stage: "attest", request })).toBe(at);
      for (const [device, request] of at.revealed)
        expect(receive(at, device, { stage: "reveal", request })).toBe(at);
    };
    again(session);
    const { message } = advertise(terms({ attempt: 1 }), memberOf("d00"));
    const other = { stage: "advertise", advertisement: message } as const;
    expect(() => receive(session, "d00", other)).toThrow("keys of d00: expected what it sent before");
  });

  test("replaying the same messages gives the same session", async () => {
    const play = await played(5);
    const { advertised, shared, uploaded, attested, revealed, trust } = play.session;
    let twin = openSession(play.session.terms, trust);
    for (const [device, { advertisement }] of advertised)
      twin = receive(twin, device, { stage: "advertise", advertisement });
    twin = advance(twin);
    for (const [device, request] of shared) twin = receive(twin, device, { stage: "share", request });
    twin = advance(twin);
    for (const device of uploaded) twin = receive(twin, device, { stage: "upload" });
    twin = advance(twin);
    for (const [device, request] of attested) twin = receive(twin, device, { stage: "attest", request });
    twin = advance(twin);
    for (const [device, request] of revealed) twin = receive(twin, device, { stage: "reveal", request });
    expect(twin).toEqual(play.session);
    expect(await unmask(twin, play.sum)).toEqual(plainSum(play, ALL));
  });

  test("messages too early are refused", async () => {
    const play = await upTo("mask", 5);
    const request = {
      $typeName: "tutti.v1.AttestRequest" as const,
      session: play.session.sid!,
      signature: random.bytes(64),
    };
    expect(() => receive(play.session, "d00", { stage: "attest", request })).toThrow(
      "expected phase attesting, got masking",
    );
    expect(() => receive(play.session, "d99", { stage: "upload" })).toThrow("a device of the earlier stages");
  });

  test("without spares it completes at t answers; with some it waits for them, or for everyone", async () => {
    for (const [spare, at] of [
      [0, 4],
      [1, 5],
      [9, 5],
    ] as const) {
      const play = begin(5, terms(), spare);
      for (const stage of ["advertise", "share", "mask", "attest"] as const) {
        await during(play, stage, ALL);
        close(play);
      }
      await during(play, "reveal", ALL.slice(0, at - 1));
      expect(play.session.phase).toBe("revealing");
      await during(play, "reveal", ALL.slice(at - 1, at));
      expect(play.session.phase).toBe("complete");
      expect(() => advance(play.session)).toThrow("one that is complete");
    }
  });

  test("a sum of another length is refused; the caller's sum stays; pauses are the caller's", async () => {
    const play = await played(5);
    await expect(unmask(play.session, new Uint32Array(4))).rejects.toThrow(
      "masked sum: expected 5 words, got 4",
    );
    const before = play.sum.slice();
    let pauses = 0;
    await unmask(play.session, play.sum, { pause: async () => void pauses++ });
    expect(play.sum).toEqual(before);
    expect(pauses).toBe(6);
  });
});
