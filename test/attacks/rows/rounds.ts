import { seededRandom } from "@tutti/foundation/random";
import { scaleOf } from "@tutti/round/spec";
import { quantise } from "@tutti/update/quantise";
import { Attempt, combined, equalWords } from "../harness/attempt.ts";
import { Corrupt } from "../harness/corrupt.ts";
import { againstDevice, type Lab } from "../harness/lab.ts";
import { surrounded } from "../harness/sybil.ts";
import { papersFor, random } from "../harness/world.ts";
import { type Outcome, patch, type Scenario, without, worked } from "../scenario.ts";

const STATEMENT = "libs/secagg/src/statement.ts";
const MEMBER = "libs/secagg/src/device/member.ts";

/**
 * Others are given a release on which their update is zero (Pasquini et al. 2022, model inconsistency): what
 * the sum then says is the victim's. Three devices, all honest.
 */
async function otherModel(lab: Lab): Promise<Outcome> {
  lab.honest("w1", "w2");
  const [own, others] = [lab.invite({ round: 1 }), lab.invite({ round: 1 })];
  await lab.victim.train(own);
  const [terms, theirs] = [lab.terms(own), lab.terms(others)];
  const scale = scaleOf(lab.plan);
  const coordinates = terms.length - 1 - scale.metrics.length;
  const still = { update: new Float32Array(coordinates), weight: 1, metrics: scale.metrics.map(() => 0) };
  const attempt = new Attempt(terms);
  const termsFor = (name: string) => (name === "victim" ? terms : theirs);
  for (const puppet of lab.puppets) puppet.begin(theirs, quantise(still, scale, seededRandom(1)));
  for (const actor of lab.actors) await attempt.advertise(actor, termsFor(actor.name));
  for (const actor of lab.actors) {
    await attempt.share(actor, { ...attempt.roster(), terms: termsFor(actor.name) });
  }
  for (const actor of lab.actors) await attempt.mask(actor, attempt.delivery(actor.name, lab.names));
  const sidOf = (name: string) => attempt.shared.get(name)!.session;
  for (const actor of lab.actors) {
    await attempt.attest(actor, attempt.survivors(lab.names, sidOf(actor.name)));
  }
  for (const actor of lab.actors) {
    await attempt.reveal(actor, attempt.attestations([...attempt.signatures], sidOf(actor.name)));
  }
  const sum = (await attempt.opened(lab.names)).subarray(0, coordinates);
  const expected = (await lab.victim.words(own)).subarray(0, coordinates);
  if (!equalWords(sum, expected)) return { kind: "broken", why: "another sum than the victim's update" };
  return worked(`the sum is the victim's update, all ${coordinates} words`);
}

/** Mask keys that came out in another round, when their owners were lost in it; advertised then, used now. */
class Replayed extends Corrupt {
  override advertisement(terms: Parameters<Corrupt["advertisement"]>[0]) {
    return super.advertisement({ ...terms, round: terms.round + 1, attempt: 0 });
  }
}

async function oldKeys(lab: Lab): Promise<Outcome> {
  lab.corrupt = ["w1", "w2"].map((name) => new Replayed(papersFor(name, lab.world.authority)));
  const attempt = await lab.begin();
  await attempt.share(lab.victim);
  const delivery = attempt.delivery("victim", lab.names);
  // The envelope keys of then are their owners' own: what the attacker puts in their places does not open.
  for (const envelope of delivery.envelopes) {
    if (envelope.from !== "victim") envelope.sealed = random.bytes(envelope.sealed.length);
  }
  await attempt.mask(lab.victim, delivery);
  return worked(`uploaded under ${attempt.corruptPairs("victim").size} pair masks, every one of them known`);
}

/** As attack 1's second, with signatures that were given in four attempts which came to nothing. */
async function oldSignatures(lab: Lab): Promise<Outcome> {
  const shown: Readonly<Record<string, readonly string[]>> = {
    victim: ["c", "victim", "w1", "z2"],
    w1: ["c", "victim", "w1", "z1"],
    w2: ["c", "victim", "w1", "w2"],
    z1: ["c", "victim", "w1", "z1"],
    z2: ["c", "victim", "w1", "w2", "z2"],
  };
  lab.bought("c");
  lab.honest("w1", "w2", "z1", "z2");
  const invite = lab.invite();
  const given = new Map<string, [string, Uint8Array][]>();
  const uploaded = async (number: number) => {
    const attempt = await lab.begin({ ...invite, attempt: number });
    for (const actor of lab.actors) await attempt.share(actor);
    for (const actor of lab.actors) await attempt.mask(actor, attempt.delivery(actor.name, lab.names));
    return attempt;
  };
  for (const [number, list] of [shown.victim!, shown.w1!, shown.w2!, shown.z2!].entries()) {
    const attempt = await uploaded(number);
    const signed: [string, Uint8Array][] = [["c", attempt.signAs(lab.corrupt[0]!, lab.names, list)]];
    for (const actor of lab.actors.filter(({ name }) => list.includes(name))) {
      signed.push([actor.name, await attempt.attest(actor, attempt.survivors(list))]);
    }
    given.set(list.join(), signed);
  }
  const attempt = await uploaded(given.size);
  for (const actor of lab.actors) await attempt.attest(actor, attempt.survivors(shown[actor.name]!));
  for (const actor of lab.actors) {
    await attempt.reveal(actor, attempt.attestations(given.get(shown[actor.name]!.join())!));
  }
  return worked("every device revealed on sets of its own, with signatures of attempts before");
}

/** Two devices, one bought; or three, of whom the third is given out for lost. */
async function pair(lab: Lab, honest: readonly string[]): Promise<Outcome> {
  lab.bought("c");
  lab.honest(...honest);
  const attempt = await lab.begin();
  for (const actor of lab.actors) await attempt.share(actor);
  for (const actor of lab.actors) await attempt.mask(actor, attempt.delivery(actor.name, lab.names));
  const few = ["c", "victim"];
  await attempt.attest(lab.victim, attempt.survivors(few));
  const signed = [
    ["c", attempt.signAs(lab.corrupt[0]!, lab.names, few)],
    ["victim", attempt.signatures.get("victim")!],
  ] as const;
  await attempt.reveal(lab.victim, attempt.attestations(signed));
  const pairs = attempt.corruptPairs("victim");
  for (const name of honest) {
    pairs.set(name, attempt.pair(await attempt.secret("maskKey", name), [name, "victim"]));
  }
  const seed = await attempt.secret("seed", "victim");
  return await lab.bared(attempt.bare("victim", { seed, pairs }), "the sum of two, less the accomplice's");
}

/** With t of two, the accomplice needs one honest device for each of the victim's two secrets. */
async function lowered(lab: Lab): Promise<Outcome> {
  lab.bought("c");
  const [seeded, keyed] = lab.honest("w1", "w2");
  const attempt = await lab.begin();
  for (const actor of lab.actors) await attempt.share(actor, { ...attempt.roster(), threshold: 2 });
  for (const actor of lab.actors) await attempt.mask(actor, attempt.delivery(actor.name, lab.names));
  const lists = [
    [seeded!, ["c", "victim", "w1"]],
    [keyed!, ["c", "w1", "w2"]],
  ] as const;
  for (const [actor, list] of lists) {
    const own = await attempt.attest(actor, attempt.survivors(list));
    const sold = attempt.signAs(lab.corrupt[0]!, lab.names, list);
    await attempt.reveal(
      actor,
      attempt.attestations([
        ["c", sold],
        [actor.name, own],
      ]),
    );
  }
  const secret = await attempt.secret("maskKey", "victim");
  const others = lab.names.filter((name) => name !== "victim");
  const pairs = new Map(others.map((name) => [name, attempt.pair(secret, ["victim", name])] as const));
  const seed = await attempt.secret("seed", "victim");
  return await lab.bared(attempt.bare("victim", { seed, pairs }), "both secrets, at a threshold of two");
}

/** One round over all, and again without w3: the difference is w3's vector. */
async function again(lab: Lab, between: () => Promise<void>): Promise<Outcome> {
  const [, , target] = lab.honest("w1", "w2", "w3");
  const invite = lab.invite();
  const sums: Uint32Array[] = [];
  for (const [number, names] of [lab.names, lab.names.filter((name) => name !== "w3")].entries()) {
    if (number > 0) await between();
    const attempt = await lab.begin({ ...invite, attempt: number });
    const actors = lab.actors.filter(({ name }) => names.includes(name));
    for (const actor of actors) await attempt.share(actor);
    for (const actor of actors) await attempt.mask(actor, attempt.delivery(actor.name, names));
    for (const actor of actors) await attempt.attest(actor, attempt.survivors(names));
    for (const actor of actors) await attempt.reveal(actor, attempt.attestations([...attempt.signatures]));
    sums.push(await attempt.opened(names));
  }
  const difference = combined(lab.plan.secureAggregation.bits, [1, sums[0]!], [-1, sums[1]!]);
  if (!equalWords(difference, target!.words)) return { kind: "broken", why: "no vector is the difference" };
  return worked("two sums of one round, whose difference is one device's vector");
}

const LEDGER = without(
  "a device helps to open one sum per round",
  patch(MEMBER, "!ledger.has(run, round),", "true,"),
);

export const ROUNDS: readonly Scenario[] = [
  {
    row: 5,
    name: "another release to everybody else, so that the sum is the victim's update",
    harness: "coordinator",
    mutations: [
      without(
        "model and task are in the session id, from which all masks are made",
        patch(STATEMENT, "at.root, modelHash, taskHash, ...sizes", "at.root, ...sizes"),
      ),
    ],
    run: againstDevice(otherModel, { rounds: 2 }),
  },
  {
    row: 7,
    name: "keys advertised for another round, whose mask keys came out there",
    harness: "coordinator",
    mutations: [
      without(
        "session keys are signed for this run, round and attempt",
        patch(
          STATEMENT,
          'canonical("tutti/advertise/v1", run, round, attempt, keys.envelopeKey',
          'canonical("tutti/advertise/v1", keys.envelopeKey',
        ),
      ),
    ],
    run: againstDevice(oldKeys),
  },
  {
    row: 7,
    name: "attestations of attempts that came to nothing",
    harness: "coordinator",
    mutations: [
      without(
        "an attestation is for one session and one roster",
        patch(STATEMENT, '    sid,\n    sets.root,\n    namesHash("U2"', '    namesHash("U2"'),
      ),
    ],
    run: againstDevice(oldSignatures),
  },
  {
    row: 9,
    name: "a cohort of two",
    harness: "coordinator",
    mutations: [
      without(
        "the device's own floors",
        patch("libs/secagg/src/device/roster.ts", "    count >= floor,", "    true,"),
      ),
    ],
    run: againstDevice((lab) => pair(lab, [])),
  },
  {
    row: 9,
    name: "a cohort smaller than the run's owner signed for",
    harness: "coordinator",
    mutations: [
      without(
        "the plan's own sizes hold beside the policy's",
        patch(
          "apps/client-sdk/src/session.ts",
          "return { devices: Math.max(devices, min), survivors: Math.max(survivors, min) };",
          "return { devices, survivors };",
        ),
      ),
    ],
    run: againstDevice((lab) => surrounded(lab, lab.bought("w1", "w2")), { cohort: { min: 50, max: 100 } }),
  },
  {
    row: 9,
    name: "two survivors of three",
    harness: "coordinator",
    mutations: [
      without(
        "the device's own floor of survivors",
        patch(
          "libs/secagg/src/device/attest.ts",
          'atLeast("survivors", member.floor.survivors, devices.length);',
          "",
        ),
      ),
    ],
    run: againstDevice((lab) => pair(lab, ["w"])),
  },
  {
    row: 9,
    name: "a threshold below the protocol's",
    harness: "coordinator",
    mutations: [
      without(
        "the device computes t itself",
        patch(
          "libs/secagg/src/device/roster.ts",
          "const crew = formCrew(terms, parties);",
          `const crew = formCrew(terms, parties);
           Object.assign(crew.size, { threshold: roster.threshold });`,
        ),
      ),
    ],
    run: againstDevice(lowered),
  },
  {
    row: 10,
    name: "the same round summed again without one device",
    harness: "coordinator",
    mutations: [LEDGER],
    run: againstDevice((lab) => again(lab, async () => {})),
  },
  {
    row: 10,
    name: "the same round summed again, after the device restarted",
    harness: "coordinator",
    mutations: [
      LEDGER,
      without(
        "the ledger is on disk",
        patch(
          "apps/client-sdk/src/node/ledger.ts",
          'const lines = () => (existsSync(file) ? readFileSync(file, "utf8").split("\\n") : []);',
          "const lines = (): string[] => [];",
        ),
      ),
    ],
    run: againstDevice((lab) =>
      again(lab, async () => {
        await lab.victim.stop();
        await lab.victim.start();
        for (const puppet of lab.puppets) puppet.restart();
      }),
    ),
  },
];
