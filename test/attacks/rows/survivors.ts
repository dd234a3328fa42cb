import type { Attempt } from "../harness/attempt.ts";
import { combined, equalWords } from "../harness/attempt.ts";
import { againstDevice, type Lab } from "../harness/lab.ts";
import type { Actor } from "../harness/sent.ts";
import { type Outcome, patch, type Scenario, without, worked } from "../scenario.ts";

const ATTEST = "libs/secagg/src/device/attest.ts";
const REVEAL = "libs/secagg/src/device/reveal.ts";
const GROUP = "libs/secagg/src/group.ts";
const STATE = "libs/secagg/src/device/state.ts";
const OWN_SETS = patch(REVEAL, "verify(party.publicKey, statement, signature),", "true,");
const QUORUM = patch(REVEAL, "demand(signers.size >= group.quorum,", "demand(true,");
const COUNTED_TWICE = [
  patch(REVEAL, "demand(!signers.has(device),", "demand(true,"),
  patch(REVEAL, "demand(signers.size >= group.quorum,", "demand(signed.length >= group.quorum,"),
];

/** Who is shown which survivors, and, where it is not everybody, which senders. */
type Shown = Readonly<Record<string, readonly string[]>>;

/**
 * Six devices, one of them bought: n_C = 1, t = 4. The victim is told that only four shared, and each honest
 * device of other survivors, so that four shares of the mask keys of w1 and w2 come out, and four of the
 * victim's seed. Thresholds alone do not stop this; the signed sets do.
 */
const ALONE: Shown = {
  victim: ["c", "victim", "w1", "w2"],
  w1: ["c", "victim", "w1", "z1", "z2"],
  w2: ["c", "victim", "w2", "z1", "z2"],
  z1: ["c", "victim", "z1", "z2"],
  z2: ["c", "victim", "z1", "z2"],
};
/** With the same senders for all: what comes out is the sum of two honest devices, and t − n_C is three. */
const TWO: Shown = {
  victim: ["c", "victim", "w1", "z2"],
  w1: ["c", "victim", "w1", "z1"],
  w2: ["c", "victim", "w1", "w2"],
  z1: ["c", "victim", "w1", "z1"],
  z2: ["c", "victim", "w1", "w2", "z2"],
};
type Signatures = (attempt: Attempt, name: string) => [string, Uint8Array][];

async function toUploads(lab: Lab, sendersOf: (actor: Actor) => readonly string[]): Promise<Attempt> {
  const attempt = await lab.begin();
  for (const actor of lab.actors) await attempt.share(actor);
  for (const actor of lab.actors) {
    await attempt.mask(actor, attempt.delivery(actor.name, sendersOf(actor)));
  }
  return attempt;
}

/** The bought device signs whatever is wanted. */
function bySold(attempt: Attempt, senders: readonly string[], survivors: readonly string[]): Uint8Array {
  return attempt.signAs(attempt.corrupt[0]!, senders, survivors);
}

const everyone = (attempt: Attempt) => [...attempt.adverts.keys()];

/** Signatures as they were given, each on the sets that its signer was shown. */
const asGiven: Signatures = (attempt, name) =>
  ALONE[name]!.map((device) => {
    const senders = name === "victim" ? ALONE.victim! : everyone(attempt);
    return [device, attempt.signatures.get(device) ?? bySold(attempt, senders, ALONE[name]!)];
  });

/** The device's own signature, and the accomplice's on the same sets. */
const ownAndSold: Signatures = (attempt, name) =>
  asGiven(attempt, name).filter(([device]) => device === name || device === "c");

async function alone(lab: Lab, signed: Signatures, attested = true): Promise<Outcome> {
  lab.bought("c");
  lab.honest("w1", "w2", "z1", "z2");
  const attempt = await toUploads(lab, (actor) => (actor === lab.victim ? ALONE.victim! : lab.names));
  if (attested)
    for (const actor of lab.actors) await attempt.attest(actor, attempt.survivors(ALONE[actor.name]!));
  for (const actor of lab.actors) {
    await attempt.reveal(actor, attempt.attestations(signed(attempt, actor.name)));
  }
  return await isolated(lab, attempt, ["w1", "w2"]);
}

/** Takes off the victim's own mask, and those with the accomplice and with devices given out for lost. */
async function isolated(lab: Lab, attempt: Attempt, lost: readonly string[]): Promise<Outcome> {
  const pairs = await pairsOf(attempt, "victim", lost);
  const seed = await attempt.secret("seed", "victim");
  return await lab.bared(attempt.bare("victim", { seed, pairs }), "isolated");
}

async function pairsOf(
  attempt: Attempt,
  of: string,
  lost: readonly string[],
): Promise<Map<string, Uint8Array>> {
  const pairs = attempt.corruptPairs(of);
  for (const name of lost) {
    pairs.set(name, attempt.pair(await attempt.secret("maskKey", name), [name, of]));
  }
  return pairs;
}

/** Two honest devices out of five, from signatures that `sign` gathers on the sets of each. */
async function two(lab: Lab, sign: (attempt: Attempt) => Promise<Signatures>): Promise<Outcome> {
  lab.bought("c");
  const [near] = lab.honest("w1", "w2", "z1", "z2");
  const attempt = await toUploads(lab, () => lab.names);
  const signed = await sign(attempt);
  for (const actor of lab.actors) {
    await attempt.reveal(actor, attempt.attestations(signed(attempt, actor.name)));
  }
  const parts = await Promise.all(
    ["victim", "w1"].map(async (of) => {
      const pairs = await pairsOf(attempt, of, ["w2", "z1", "z2"]);
      return attempt.bare(of, { seed: await attempt.secret("seed", of), pairs });
    }),
  );
  const sum = combined(attempt.terms.bits, [1, parts[0]!], [1, parts[1]!]);
  const own = await lab.victim.words(lab.invite());
  const expected = combined(attempt.terms.bits, [1, own], [1, near!.words]);
  if (!equalWords(sum, expected)) return { kind: "broken", why: "another sum than that of the two" };
  return worked("the sum of two honest devices, where t − n_C is three");
}

const shownTwo: Signatures = (attempt, name) =>
  TWO[name]!.map((device) => [
    device,
    attempt.signatures.get(device) ?? bySold(attempt, everyone(attempt), TWO[name]!),
  ]);

/** Everybody signs its own list first, then every other one that it is in. */
const signedTwice = (lab: Lab) => async (attempt: Attempt) => {
  const given = new Map<string, Map<string, Uint8Array>>();
  const lists = [...new Map(Object.values(TWO).map((list) => [list.join(), list])).values()];
  for (const actor of lab.actors) {
    const own = TWO[actor.name]!;
    const others = lists.filter((list) => list.join() !== own.join() && list.includes(actor.name));
    for (const list of [own, ...others]) {
      const signature = await attempt.attest(actor, attempt.survivors(list));
      const held = given.get(list.join()) ?? new Map([["c", bySold(attempt, everyone(attempt), list)]]);
      given.set(list.join(), held.set(actor.name, signature));
    }
  }
  return (_: Attempt, name: string): [string, Uint8Array][] => [...given.get(TWO[name]!.join())!];
};

/** Four devices, one bought: t = 3. A name that counts twice makes two survivors pass for three. */
async function doubled(lab: Lab): Promise<Outcome> {
  lab.bought("c");
  lab.honest("w1", "w2");
  const lists: Shown = {
    victim: ["c", "victim", "victim"],
    w1: ["victim", "w1", "w1"],
    w2: ["victim", "w2", "w2"],
  };
  const attempt = await toUploads(lab, () => lab.names);
  for (const actor of lab.actors) {
    const list = lists[actor.name]!;
    const signature = await attempt.attest(actor, attempt.survivors(list));
    const signed = list.map(() => [actor.name, signature] as [string, Uint8Array]);
    await attempt.reveal(actor, attempt.attestations(signed));
  }
  return await isolated(lab, attempt, ["w1", "w2"]);
}

/** Everybody's sum is opened; then the same devices are told that w1 was lost. */
async function askedTwice(lab: Lab): Promise<Outcome> {
  const [target] = lab.honest("w1", "w2", "w3");
  const attempt = await toUploads(lab, () => lab.names);
  const rounds = [lab.names, lab.names.filter((name) => name !== "w1")];
  for (const survivors of rounds) {
    const actors = lab.actors.filter(({ name }) => survivors.includes(name));
    for (const actor of actors) await attempt.attest(actor, attempt.survivors(survivors));
    const signed = actors.map(({ name }) => [name, attempt.signatures.get(name)!] as const);
    const before = new Map(attempt.revealed);
    for (const actor of actors) await attempt.reveal(actor, attempt.attestations(signed));
    if (before.size === 0) continue;
    const seed = await attempt.secret("seed", "w1", [...before.values()]);
    const secret = await attempt.secret("maskKey", "w1");
    const others = survivors.map((name) => [name, attempt.pair(secret, ["w1", name])] as const);
    const bare = attempt.bare("w1", { seed, pairs: new Map(others) });
    if (equalWords(bare, target!.words)) return worked("both shares of one device, and with them its vector");
  }
  return { kind: "broken", why: "no vector came of both shares" };
}

/** Four devices, one bought: t = 3. The victim is told that it and the accomplice alone shared. */
async function partial(lab: Lab): Promise<Outcome> {
  lab.bought("c");
  lab.honest("w1", "w2");
  const few = ["c", "victim"];
  const attempt = await toUploads(lab, (actor) => (actor === lab.victim ? few : lab.names));
  const others = lab.puppets;
  for (const actor of others) await attempt.attest(actor, attempt.survivors(lab.names));
  const signed = others.map(({ name }) => [name, attempt.signatures.get(name)!] as const);
  const sold = ["c", bySold(attempt, lab.names, lab.names)] as const;
  for (const actor of others) await attempt.reveal(actor, attempt.attestations([sold, ...signed]));
  return await isolated(lab, attempt, []);
}

export const SURVIVORS: readonly Scenario[] = [
  {
    row: 1,
    name: "each device is shown other senders and survivors, with signatures on other sets",
    harness: "coordinator",
    mutations: [without("a signature counts only on this device's own sets", OWN_SETS)],
    run: againstDevice((lab) => alone(lab, asGiven)),
  },
  {
    row: 1,
    name: "each device is shown other survivors of the same senders",
    harness: "coordinator",
    mutations: [without("a signature counts only on this device's own sets", OWN_SETS)],
    run: againstDevice((lab) =>
      two(lab, async (attempt) => {
        for (const actor of lab.actors) await attempt.attest(actor, attempt.survivors(TWO[actor.name]!));
        return shownTwo;
      }),
    ),
  },
  {
    row: 1,
    name: "a device's own signature and an accomplice's pass for a quorum",
    harness: "coordinator",
    mutations: [without("a quorum of t signatures", QUORUM)],
    run: againstDevice((lab) => alone(lab, ownAndSold)),
  },
  {
    row: 1,
    name: "one signature repeated passes for a quorum",
    harness: "coordinator",
    mutations: [without("each signer counts once, and t of them are needed", ...COUNTED_TWICE)],
    run: againstDevice((lab) =>
      alone(lab, (attempt, name) => {
        const [sold, own] = ownAndSold(attempt, name);
        return [sold!, own!, own!, own!];
      }),
    ),
  },
  {
    row: 2,
    name: "a second list of survivors to sign, after the first",
    harness: "coordinator",
    mutations: [
      without(
        "one answer per stage, and stages in order",
        patch(STATE, "if (known) {", "if (known && false) {"),
        patch(ATTEST, 'if (state.stage !== "masked")', "if (false)"),
      ),
    ],
    run: againstDevice((lab) => two(lab, signedTwice(lab))),
  },
  {
    row: 2,
    name: "overlapping lists: one name twice, so that two survivors pass for three",
    harness: "coordinator",
    mutations: [
      without(
        "names in a set ascend, each signer counts once, and t of them are needed",
        patch(GROUP, "names[i - 1]! < name", "names[i - 1]! <= name"),
        ...COUNTED_TWICE,
      ),
    ],
    run: againstDevice(doubled),
  },
  {
    row: 2,
    name: "a second reveal, of a device that was a survivor in the first",
    harness: "coordinator",
    mutations: [
      without(
        "one answer per stage, stages in order and never back, the ledger, shares erased once used",
        patch(STATE, "if (known) {", "if (known && false) {"),
        patch(ATTEST, 'if (state.stage !== "masked")', "if (false)"),
        patch(
          "apps/client-sdk/src/session.ts",
          "this.#state = furthest(this.#state, outcome.state);",
          'if (outcome.state.stage !== "revealed") this.#state = outcome.state;',
        ),
        patch("libs/secagg/src/device/member.ts", "!ledger.has(run, round),", "true,"),
        patch(
          REVEAL,
          "[...shares.values()].flatMap(({ seedShare, maskKeyShare }) => [seedShare, maskKeyShare]),",
          "[],",
        ),
      ),
    ],
    run: againstDevice(askedTwice),
  },
  {
    row: 2,
    name: "reveal before attest: signatures on sets that the device was never shown",
    harness: "coordinator",
    mutations: [
      without(
        "a device reveals after it signed, and on what it signed",
        patch(
          REVEAL,
          'if (state.stage !== "attested") throw outOfOrder(state, "attested");',
          "Object.assign(state, { survivors: attestations.signed.map((one) => one.device) });",
        ),
        OWN_SETS,
      ),
    ],
    run: againstDevice((lab) => alone(lab, asGiven, false)),
  },
  {
    row: 14,
    name: "the victim is told that only it and an accomplice shared",
    harness: "coordinator",
    mutations: [
      without(
        "at least t senders",
        patch("libs/secagg/src/device/mask.ts", "demand(senders.length >= group.least,", "demand(true,"),
      ),
    ],
    run: againstDevice(partial),
  },
];
