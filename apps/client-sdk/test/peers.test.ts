import { advertise } from "@tutti/secagg/device/advertise";
import { type Member, memoryLedger } from "@tutti/secagg/device/member";
import { advance, openSession as openServer, receive, wordFor } from "@tutti/secagg/server/session";
import { create } from "@tutti/wire/message";
import { TermsSchema } from "@tutti/wire/secagg";
import { expect, test } from "vitest";
import { pinPeers } from "../src/peers.ts";
import { openSession, type StageWord } from "../src/session.ts";
import type { Site } from "../src/site.ts";
import { memoryStore } from "../src/store.ts";
import { federation, NOW_S, type Party, policyOf } from "./fixture.ts";

const key = (value: number) => ({ publicKey: new Uint8Array(32).fill(value) });

test("a name keeps the key it was first seen with; a roster with another is refused whole", async () => {
  const store = memoryStore();
  await pinPeers(
    store,
    new Map([
      ["ann", key(1)],
      ["bob", key(2)],
    ]),
  );
  await pinPeers(
    store,
    new Map([
      ["bob", key(2)],
      ["eve", key(3)],
    ]),
  );
  const forged = new Map([
    ["dan", key(4)],
    ["bob", key(5)],
  ]);
  await expect(pinPeers(store, forged)).rejects.toMatchObject({ code: "refused", what: "peer bob" });
  // The forged roster taught nothing: dan may still come with a key of his own.
  await pinPeers(
    store,
    new Map([
      ["dan", key(6)],
      ["ann", key(1)],
    ]),
  );
  await expect(pinPeers(store, new Map([["eve", key(1)]]))).rejects.toThrow("peer eve");
});

test("a damaged list is no empty one", async () => {
  const store = memoryStore();
  await store.putDocument("peers", "{}");
  await expect(pinPeers(store, new Map([["ann", key(1)]]))).rejects.toMatchObject({ code: "storage" });
});

test("a device of the same name and another key, however well certified, gets no share", async () => {
  const fed = federation();
  const [ann, bob, eve, again] = ["ann", "bob", "eve", "bob"].map((name) => fed.device(name));
  const policy = policyOf(fed);
  const clock = { nowMs: () => 0, wallMs: () => NOW_S * 1000, sleep: async () => {}, turn: async () => {} };
  const identity = { ...ann!, federation: "test", authority: fed.authority };
  const ledger = memoryLedger();
  const store = memoryStore();
  const site = { identity, policy, clock, ledger, secret: fed.random, store } as unknown as Site;

  async function roundWith(round: number, others: readonly Party[]) {
    const hash = new Uint8Array(32);
    const own = create(TermsSchema, {
      run: "r",
      round,
      attempt: 0,
      modelHash: hash,
      taskHash: hash,
      bits: 16,
      length: 4,
    });
    const trust = { authority: fed.authority, nowS: NOW_S };
    let server = openServer(own, { ...trust, members: new Set(["ann", "bob", "eve"]) });
    const session = openSession({ own, cohort: { min: 3, max: 3 }, words: new Uint32Array(4), site });
    const link = {
      advertise: async ({ advertisement }: never) => {
        server = receive(server, "ann", { stage: "advertise", advertisement });
      },
    };
    await session.open(own).send(link as never, new AbortController().signal);
    for (const { name, key, certificate } of others) {
      const rest = { floor: policy.floor, random: fed.random, ledger: memoryLedger(), ...trust };
      const member: Member = { name, key, certificate, ...rest };
      server = receive(server, name, { stage: "advertise", advertisement: advertise(own, member).message });
    }
    const word = wordFor(advance(server), "ann")!;
    expect(word.kind).toBe("roster");
    return await session.hear({ case: word.kind, value: word.message } as StageWord);
  }

  await roundWith(0, [bob!, eve!]);
  await roundWith(1, [eve!, bob!]);
  await expect(roundWith(2, [again!, eve!])).rejects.toMatchObject({ code: "refused", what: "peer bob" });
});
