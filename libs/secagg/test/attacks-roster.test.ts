import { newSeed, verify as portableVerify, signingKey } from "@tutti/identity/keys";
import { create } from "@tutti/wire/message";
import { type Advertisement, AdvertisementSchema, type Roster } from "@tutti/wire/secagg";
import { describe, expect, test } from "vitest";
import { advertise } from "../src/device/advertise.ts";
import { attest } from "../src/device/attest.ts";
import { share } from "../src/device/share.ts";
import { receive } from "../src/server/session.ts";
import { advertiseStatement, sessionId } from "../src/statement.ts";
import { begin, memberOf, NOW_S, random, terms, upTo, wordAs } from "./federation.ts";

import { ALL, refusal, rosterWith, signedBy, survivorsOf } from "./malice.ts";

// docs/threat-model.md, Attacks, by number: a malicious coordinator against the device's own functions: what
// rosters it tries. Each expectation names the check that stops it.

describe("3: invented devices", () => {
  const replace = (advertisement: Advertisement) => (roster: Roster) => {
    roster.members[4] = advertisement;
  };

  test("no certificate, a foreign authority, an expired certificate", async () => {
    const foreign = memberOf("d04", signingKey(newSeed(random)));
    const imposed = { ...foreign, authority: foreign.authority };
    const keys = advertise(terms(), memberOf("d04")).message;
    const signature = imposed.key.sign(advertiseStatement(terms(), keys));
    const invented = create(AdvertisementSchema, { ...keys, certificate: imposed.certificate, signature });
    expect(await refusal(replace(invented))).toContain("certificate of d04: expected authority");
    expect(await refusal((roster) => delete roster.members[4]!.certificate)).toContain(
      "expected a certificate",
    );
    const { play, roster } = await rosterWith(() => {});
    const state = play.states.get("d00")!;
    const later = { ...state, member: { ...state.member, nowS: NOW_S + 2000 } };
    await expect(share(later, roster)).rejects.toThrow("expected one that is still valid");
  });

  test("the same identity, or the same session key, in two places", async () => {
    const honest = await rosterWith(() => {});
    const [first] = honest.roster.members;
    expect(await refusal(({ members }) => members.splice(4, 1, members[3]!))).toContain("each name once");
    const copied = signedBy(memberOf("d04"), { maskKey: first!.envelopeKey });
    const { play, roster } = await rosterWith(() => {});
    roster.members[4] = signedBy(memberOf("d04"), { maskKey: roster.members[0]!.maskKey });
    await expect(share(play.states.get("d00")!, roster)).rejects.toThrow(
      "expected keys of its own, got one of d00",
    );
    roster.members[4] = signedBy(memberOf("d04"), {
      maskKey: copied.envelopeKey,
      envelopeKey: copied.envelopeKey,
    });
    await expect(share(play.states.get("d00")!, roster)).rejects.toThrow("expected keys of its own");
  });
});

test("3: the coordinator keeps a copied session key out of the roster", async () => {
  const { message } = advertise(terms(), memberOf("d00"));
  const session = receive(begin(5).session, "d00", { stage: "advertise", advertisement: message });
  const advertisement = signedBy(memberOf("d01"), { maskKey: message.maskKey });
  expect(() => receive(session, "d01", { stage: "advertise", advertisement })).toThrow(
    "keys of d01: expected keys of its own, got one of d00",
  );
});

describe("4: substituted or weak keys", () => {
  test("another mask or envelope key than the one signed", async () => {
    const other = new Uint8Array(32).fill(9);
    for (const key of ["maskKey", "envelopeKey"] as const) {
      expect(
        await refusal(({ members }) => {
          members[1]![key] = other;
        }),
      ).toContain("keys of d01: expected its signature for this attempt");
    }
  });

  test("all-zero and non-canonical keys that their owner signed: refused at both ends", async () => {
    const zero = new Uint8Array(32);
    const beyond = new Uint8Array(32).fill(0xff);
    for (const [key, why] of [
      [zero, "full order"],
      [beyond, "canonical X25519 key"],
    ] as const) {
      for (const field of ["maskKey", "envelopeKey"] as const) {
        const weak = signedBy(memberOf("d04"), { [field]: key });
        const { play, roster } = await rosterWith(({ members }) => {
          members[4] = weak;
        });
        await expect(share(play.states.get("d00")!, roster)).rejects.toThrow(why);
        const early = await upTo("advertise", 5);
        expect(() => receive(early.session, "d04", { stage: "advertise", advertisement: weak })).toThrow(why);
      }
    }
  });

  test("this device's own keys exchanged, or left out", async () => {
    const own = signedBy(memberOf("d00"));
    expect(await refusal(({ members }) => members.splice(0, 1, own))).toContain(
      "d00 in the roster: expected its own keys, got others",
    );
    expect(await refusal(({ members }) => members.splice(0, 1))).toContain("got none");
  });
});

describe("5: another model or task to one device", () => {
  test("the roster's terms are the device's own, field by field", async () => {
    const hash = new Uint8Array(32).fill(7);
    const changes = { modelHash: hash, taskHash: hash, length: 6, bits: 21, attempt: 2, plain: true };
    for (const [field, value] of Object.entries(changes)) {
      const change = ({ terms: theirs }: Roster) => void Object.assign(theirs!, { [field]: value });
      expect(await refusal(change)).toContain(`terms: ${field.replace("Hash", " hash")}`);
    }
  });

  test("model and task are in sid, and sid in every mask's key", () => {
    const at = { root: new Uint8Array(32), n: 5, threshold: 4, degree: 5 };
    const base = sessionId(terms(), at);
    expect(sessionId({ ...terms(), modelHash: new Uint8Array(32).fill(7) }, at)).not.toEqual(base);
    expect(sessionId({ ...terms(), taskHash: new Uint8Array(32).fill(7) }, at)).not.toEqual(base);
  });
});

describe("9: below the device's floor", () => {
  test("too few members, a lowered threshold, a threshold below the floor", async () => {
    expect(await refusal(() => {}, 2)).toContain("members: expected at least 3, this device's floor, got 2");
    expect(await refusal((roster) => void Object.assign(roster, { threshold: 3 }))).toContain(
      "threshold: expected 4 of 5 holders, 5 members, got 3 of 5",
    );
    const { play, roster } = await rosterWith(() => {});
    const state = play.states.get("d00")!;
    const careful = { ...state.member, floor: { devices: 3, threshold: 5, survivors: 3 } };
    await expect(share({ ...state, member: careful }, roster)).rejects.toThrow(
      "threshold: expected at least 5",
    );
  });

  test("too few survivors for this device, though enough for the protocol", async () => {
    const play = await upTo("attest", 3);
    const two = survivorsOf(play, ["d00", "d01"]);
    expect(() => attest(play.states.get("d00")!, two)).toThrow(
      "survivors: expected at least 3, this device's floor",
    );
  });

  test("fewer survivors than t, whatever the floor", async () => {
    const play = await upTo("attest", 5);
    expect(() => attest(play.states.get("d00")!, survivorsOf(play, ALL.slice(0, 3)))).toThrow(
      "expected at least 4",
    );
  });

  test("more members than a session takes", async () => {
    const many = (roster: Roster) => {
      roster.members = Array.from({ length: 1001 }, () => roster.members[0]!);
    };
    expect(await refusal(many)).toContain("at most 1000, got 1001");
  });
});

describe("17: malleable signatures", () => {
  /** RFC 8032 section 5.1.7: S + L verifies too where S < L is not checked. */
  function plusL(signature: Uint8Array): Uint8Array {
    const L = 2n ** 252n + 27742317777372353535851937790883648493n;
    const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString("hex")}`) + L;
    const bytes = Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse();
    return new Uint8Array([...signature.subarray(0, 32), ...bytes]);
  }

  test("a second spelling of a good signature is refused by device and coordinator", async () => {
    const change = ({ members }: Roster) => {
      members[4]!.signature = plusL(members[4]!.signature);
    };
    expect(await refusal(change)).toContain("keys of d04: expected its signature");
    const { play, roster } = await rosterWith(change);
    const state = play.states.get("d00")!;
    const portable = { ...state, member: { ...state.member, verify: portableVerify } };
    await expect(share(portable, roster)).rejects.toThrow("keys of d04: expected its signature");
    const attesting = await upTo("attest", 5);
    const { message } = attest(attesting.states.get("d00")!, wordAs(attesting, "d00", "survivors"));
    const request = { ...message, signature: plusL(message.signature) };
    expect(() => receive(attesting.session, "d00", { stage: "attest", request })).toThrow(
      "attestation of d00",
    );
  });
});
