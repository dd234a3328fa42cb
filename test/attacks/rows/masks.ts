import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { base64, hex } from "@tutti/foundation/bytes";
import { unpackBits } from "@tutti/kernels/pack";
import { SHARE_BYTES } from "@tutti/secagg/shares";
import type { Attempt } from "../harness/attempt.ts";
import { equalWords } from "../harness/attempt.ts";
import { againstDevice, type Lab } from "../harness/lab.ts";
import type { Word } from "../harness/sent.ts";
import { type Outcome, patch, Refused, refused, type Scenario, without, worked } from "../scenario.ts";

const MASK = "libs/secagg/src/device/mask.ts";
const SHARE = "libs/secagg/src/device/share.ts";

async function uploaded(lab: Lab): Promise<Attempt> {
  const attempt = await lab.begin();
  for (const actor of lab.actors) await attempt.share(actor);
  for (const actor of lab.actors) await attempt.mask(actor, attempt.delivery(actor.name, lab.names));
  return attempt;
}

/** The victim's words, or what a mask made of them. */
async function readOr(lab: Lab, words: Uint32Array, what: string): Promise<Outcome> {
  const own = await lab.victim.words(lab.invite());
  if (equalWords(words, own)) return worked(`${what}: all ${words.length} words of the device's vector`);
  const same = words.filter((word, at) => word === own[at]).length;
  return refused(`masked: ${same > 2 ? same : "no"} words in the clear, of ${words.length}`);
}

/** Its vector came, and others are told that it did not: its mask key comes out, as of any lost device. */
async function saidLost(lab: Lab): Promise<Outcome> {
  lab.honest("w1", "w2", "w3");
  const attempt = await uploaded(lab);
  const others = lab.puppets;
  const survivors = others.map(({ name }) => name);
  for (const actor of others) await attempt.attest(actor, attempt.survivors(survivors));
  for (const actor of others) await attempt.reveal(actor, attempt.attestations([...attempt.signatures]));
  const secret = await attempt.secret("maskKey", "victim");
  const pairs = new Map(survivors.map((name) => [name, attempt.pair(secret, ["victim", name])] as const));
  return await readOr(lab, attempt.bare("victim", { pairs }), "every mask that others can take off");
}

/** All but the victim are bought, and its own mask is guessed. */
async function guessed(lab: Lab): Promise<Outcome> {
  lab.bought("c1", "c2");
  const attempt = await uploaded(lab);
  const pairs = attempt.corruptPairs("victim");
  return await readOr(lab, attempt.bare("victim", { seed: new Uint8Array(32), pairs }), "a guessed seed");
}

/** A bad envelope must cost its sender one share, and not drive out the device that it is for. */
async function badEnvelope(lab: Lab, spoil: (sealed: Uint8Array) => Uint8Array): Promise<Outcome> {
  lab.honest("w1", "w2", "w3");
  const attempt = await lab.begin();
  for (const actor of lab.actors) await attempt.share(actor);
  const delivery = attempt.delivery("victim", lab.names);
  const bad = delivery.envelopes.find(({ from }) => from === "w1")!;
  bad.sealed = spoil(bad.sealed);
  try {
    await attempt.mask(lab.victim, delivery);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return worked(`one bad envelope drove the device out: ${error.message}`);
  }
  for (const actor of lab.puppets) await attempt.mask(actor, attempt.delivery(actor.name, lab.names));
  for (const actor of lab.actors) await attempt.attest(actor, attempt.survivors(lab.names));
  for (const actor of lab.actors) await attempt.reveal(actor, attempt.attestations([...attempt.signatures]));
  const given = attempt.revealed.get("victim")!.shares.map(({ of }) => of);
  if (given.includes("w1")) return worked("a share of a bad envelope was revealed");
  const sum = await attempt.opened(lab.names);
  return refused(
    `costs w1 one share of four: the sum of all ${lab.names.length} is opened, ${sum.length} words`,
  );
}

/** A share one byte short in a good envelope: who reveals it has its whole answer refused. */
async function shortShare(lab: Lab): Promise<Outcome> {
  const [sold] = lab.bought("c");
  sold!.shareBytes = SHARE_BYTES - 1;
  lab.honest("w1", "w2");
  const attempt = await uploaded(lab);
  for (const actor of lab.actors) await attempt.attest(actor, attempt.survivors(lab.names));
  await attempt.reveal(lab.victim, attempt.attestations([...attempt.signatures]));
  const shares = attempt.revealed.get("victim")!.shares;
  const short = shares.find(({ share }) => share.value!.length !== SHARE_BYTES);
  if (short) return worked(`the device reveals a share of ${short.of} that has its whole answer refused`);
  return refused(`costs c one share: the device reveals ${shares.length} of ${lab.names.length}, all whole`);
}

/** Which of the victim's zeros show in what it sends. */
async function sparse(lab: Lab): Promise<Outcome> {
  lab.honest("w1", "w2");
  const attempt = await uploaded(lab);
  const { bits, length } = attempt.terms;
  const sent = unpackBits(attempt.packed.get("victim")!, bits, length);
  const own = await lab.victim.words(lab.invite());
  const zeros = [...own.keys()].filter((at) => own[at] === 0);
  if (zeros.length === 0) return { kind: "broken", why: "a vector without zeros" };
  const shown = zeros.filter((at) => sent[at] === 0).length;
  if (shown === zeros.length) return worked(`${shown} coordinates at which the device has nothing`);
  return refused(`dense: all ${length} words are masked, zeros as well`);
}

/** Every word is said wrong once, so that each check speaks; what is said then must hold no key. */
async function provoked(lab: Lab): Promise<Outcome> {
  lab.bought("c1", "c2");
  const attempt = await lab.begin();
  const twice = async (word: Word) => void (await lab.victim.ask(word));
  await attempt.share(lab.victim);
  await twice({ case: "roster", value: { ...attempt.roster(), threshold: 9 } });
  await attempt.mask(lab.victim, attempt.delivery("victim", lab.names));
  await twice({ case: "delivery", value: attempt.delivery("victim", lab.names) });
  await attempt.attest(lab.victim, attempt.survivors(lab.names));
  await twice({ case: "survivors", value: attempt.survivors(["victim"]) });
  const signed = [["victim", attempt.signatures.get("victim")!] as const];
  await twice({ case: "attestations", value: attempt.attestations(signed) });
  const sold = lab.corrupt.map((one) => [one.name, attempt.signAs(one, lab.names, lab.names)] as const);
  await attempt.reveal(lab.victim, attempt.attestations([...sold, ...signed]));
  await twice({ case: "attestations", value: attempt.attestations(sold) });
  const secrets = {
    seed: await attempt.secret("seed", "victim", []),
    "mask key": await attempt.secret("maskKey", "victim", []),
    ...Object.fromEntries(
      [...attempt.corruptPairs("victim")].map(([name, key]) => [`pair key ${name}`, key]),
    ),
  };
  const said = lab.victim.faults.map((fault) => JSON.stringify([fault.message, fault.detail, fault.stack]));
  const files = await textOf(lab.victim.folder);
  for (const [what, secret] of Object.entries(secrets)) {
    const forms = [hex(secret), base64(secret), secret.join(","), Buffer.from(secret).toString("latin1")];
    const found = [...said, ...files].some((text) => forms.some((form) => text.includes(form)));
    if (found) return worked(`the ${what} stands in what the device says or writes`);
  }
  return refused(`no key in ${said.length} refusals and ${files.length} files`);
}

async function textOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return await Promise.all(files.map(({ parentPath, name }) => readFile(join(parentPath, name), "latin1")));
}

const L = 2n ** 252n + 27742317777372353535851937790883648493n;

/** RFC 8032, section 5.1.7: the same R with S + L satisfies the equation too. */
function respelt(signature: Uint8Array): Uint8Array {
  const s = BigInt(`0x${hex(signature.subarray(32).slice().reverse())}`) + L;
  const bytes = Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse();
  return new Uint8Array([...signature.subarray(0, 32), ...bytes]);
}

/** A second spelling of a signature makes a second roster, and session, that its signer never made. */
async function malleable(lab: Lab): Promise<Outcome> {
  lab.honest("w1", "w2");
  const attempt = await lab.begin();
  const roster = attempt.roster();
  const members = roster.members.map((each) =>
    each === attempt.adverts.get("w1") ? { ...each, signature: respelt(each.signature) } : each,
  );
  await attempt.share(lab.victim, { ...roster, members });
  return worked("the device shared its secrets on a signature that nobody made");
}

export const MASKS: readonly Scenario[] = [
  {
    row: 8,
    name: "a vector that came is said to be lost, so that its mask key comes out",
    harness: "coordinator",
    mutations: [
      without(
        "a mask of the device's own",
        patch(MASK, "const masks: Mask[] = [{ key: own, sign: 1 }];", "const masks: Mask[] = [];"),
      ),
    ],
    run: againstDevice(saidLost),
  },
  {
    row: 12,
    name: "a guess at the seed of a device's own mask",
    harness: "coordinator",
    mutations: [
      without(
        "the seed is of the platform's secret chance",
        patch(SHARE, "member.random.bytes(32)", "new Uint8Array(32)"),
      ),
    ],
    run: againstDevice(guessed),
  },
  {
    row: 13,
    name: "a truncated envelope, to drive out the device that it is for",
    harness: "coordinator",
    mutations: [
      without(
        "an envelope that does not open costs its sender one share",
        patch(MASK, "if (!opened) continue;", 'if (!opened) throw new Fault("refused", "an envelope");'),
      ),
    ],
    run: againstDevice((lab) => badEnvelope(lab, (sealed) => sealed.subarray(0, sealed.length - 1))),
  },
  {
    row: 13,
    name: "an envelope altered on its way",
    harness: "coordinator",
    mutations: [
      without(
        "an envelope that does not open costs its sender one share",
        patch(MASK, "if (!opened) continue;", 'if (!opened) throw new Fault("refused", "an envelope");'),
      ),
    ],
    run: againstDevice((lab) =>
      badEnvelope(lab, (sealed) => sealed.map((byte, at) => (at === 40 ? byte ^ 1 : byte))),
    ),
  },
  {
    row: 13,
    name: "a truncated share in a good envelope, so that who reveals it is refused",
    harness: "coordinator",
    mutations: [
      without(
        "a share is 33 bytes",
        patch(
          "libs/secagg/src/envelope.ts",
          "if (maskKeyShare.length !== SHARE_BYTES || seedShare.length !== SHARE_BYTES) return null;",
          "",
        ),
      ),
    ],
    run: againstDevice(shortShare),
  },
  {
    row: 15,
    name: "coordinates at which a device has nothing to add",
    harness: "coordinator",
    mutations: [
      without(
        "every coordinate is masked",
        patch(
          MASK,
          "addMasks(y, masks);",
          "addMasks(y, masks);\n  for (const at of y.keys()) if (words[at] === 0) y[at] = 0;",
        ),
      ),
    ],
    run: againstDevice(sparse),
  },
  {
    row: 16,
    name: "words that provoke every refusal, searched for keys with the device's files",
    harness: "coordinator",
    mutations: [
      without(
        "a refusal says nothing of what is held",
        patch(
          "libs/secagg/src/device/state.ts",
          'refuse("the message it answered already", "another one")',
          'refuse("the message it answered already", [...vault.secrets].map((one) => one.join()).join(" "))',
        ),
      ),
    ],
    run: againstDevice(provoked),
  },
  {
    row: 17,
    name: "a signature spelt anew: S + L in the place of S",
    harness: "coordinator",
    mutations: [
      without(
        "signatures are verified strictly, S < L",
        patch(
          "apps/client-sdk/src/node/verify.ts",
          "if (publicKey.length !== 32 || signature.length !== 64) return false;",
          `if (publicKey.length !== 32 || signature.length !== 64) return false;
           const L = 2n ** 252n + 27742317777372353535851937790883648493n;
           const s = Buffer.from(signature.subarray(32)).reverse().toString("hex");
           const low = (BigInt("0x" + s) % L).toString(16).padStart(64, "0");
           signature = new Uint8Array([...signature.subarray(0, 32), ...Buffer.from(low, "hex").reverse()]);`,
        ),
      ),
    ],
    run: againstDevice(malleable),
  },
];
