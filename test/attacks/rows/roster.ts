import { openFolderStore } from "@tutti/client-sdk/node/store";
import { REVOKED } from "@tutti/client-sdk/revoked";
import { fromHex, hex } from "@tutti/foundation/bytes";
import { bind } from "@tutti/identity/certificate";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { envelopeJson } from "@tutti/release/dsse";
import { NO_REVOCATIONS, signRevocations, withRevoked } from "@tutti/release/revocations";
import type { KeyPair } from "@tutti/secagg/keys";
import { create } from "@tutti/wire/message";
import { type Advertisement, AdvertisementSchema, type Terms } from "@tutti/wire/secagg";
import type { RevocationList } from "@tutti/wire/standing";
import { Corrupt } from "../harness/corrupt.ts";
import { againstDevice, type Lab } from "../harness/lab.ts";
import { surrounded, surroundedIn } from "../harness/sybil.ts";
import { grantFor, nowS, type Papers, papersFor, random } from "../harness/world.ts";
import { patch, type Scenario, without } from "../scenario.ts";

const CERTIFICATE = "libs/identity/src/certificate.ts";
const GROUP = "libs/secagg/src/group.ts";
const SIGNED_BY_AUTHORITY = patch(
  CERTIFICATE,
  `demand(signed, refuse("the authority's signature", "another"));`,
  "",
);
const NAMES = ["w1", "w2"] as const;
const newKey = () => signingKey(newSeed(random));

function invented(papersOf: (lab: Lab, name: string) => Papers) {
  return againstDevice((lab) =>
    surrounded(
      lab,
      NAMES.map((name) => new Corrupt(papersOf(lab, name))),
    ),
  );
}

/** The authority's name under a body that somebody else signed. */
function forged(lab: Lab, name: string): Papers {
  const { publicKey } = lab.world.authority;
  return papersFor(name, { ...newKey(), publicKey, sign: (bytes) => newKey().sign(bytes) });
}

/** A grant that the authority made and the coordinator saw; the token's secret it never did. */
function unbound(lab: Lab, name: string): Papers {
  const { grant } = grantFor(name, lab.world.authority);
  const key = newKey();
  return { name, key, certificate: bind(grant, newKey(), key.publicKey) };
}

/** No certificate at all: a name is whatever the keys are taken for. */
class Nameless extends Corrupt {
  override advertisement(terms: Terms): Advertisement {
    const { envelopeKey, maskKey, signature } = super.advertisement(terms);
    return create(AdvertisementSchema, { envelopeKey, maskKey, signature });
  }
}

/** Keys of all zeros: whatever is agreed with them is zero, to everybody. */
class Zero extends Corrupt {
  constructor(papers: Papers, keys: readonly [KeyPair, KeyPair]) {
    super(papers, { envelopes: keys[0], masks: keys[1] });
  }

  override agreed(): Uint8Array {
    return new Uint8Array(32);
  }
}

/** Another's certificate and signature, over keys that are the attacker's. */
class Substitute extends Corrupt {
  override advertisement(terms: Terms): Advertisement {
    const own = new Corrupt(this.papers).advertisement(terms);
    return { ...own, envelopeKey: this.envelopes.publicKey, maskKey: this.masks.publicKey };
  }
}

/** Four canonical keys of small order (RFC 7748, section 6.1), so that none comes twice; of no secret. */
const SMALL = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
].map((key): KeyPair => ({ publicKey: fromHex(key), secretKey: new Uint8Array(32) }));

export const ROSTER: readonly Scenario[] = [
  {
    row: 3,
    name: "invented devices without a certificate",
    harness: "coordinator",
    mutations: [
      without(
        "a member has a certificate",
        patch(GROUP, "    certificate,\n    () => new Fault", "    true,\n    () => new Fault"),
        patch(
          GROUP,
          'const { name, publicKey } = verifyCertificate(certificate, { ...trust, role: "device" });',
          `const { name, publicKey } = certificate
             ? verifyCertificate(certificate, { ...trust, role: "device" })
             : { name: hex(envelopeKey), publicKey: maskKey.slice().fill(envelopeKey[0]!) };`,
        ),
        patch(
          GROUP,
          "const signed = verify(party.publicKey, advertiseStatement(terms, advertisement), signature);",
          "const signed = true;",
        ),
      ),
    ],
    run: againstDevice((lab) => {
      const corrupt = NAMES.map((name) => new Nameless({ ...papersFor(name, lab.world.authority) }));
      return surrounded(
        lab,
        corrupt.map((one) => Object.assign(one, { name: hex(one.envelopes.publicKey) })),
      );
    }),
  },
  {
    row: 3,
    name: "invented devices with certificates that the authority did not sign",
    harness: "coordinator",
    mutations: [without("the authority's signature on every certificate", SIGNED_BY_AUTHORITY)],
    run: invented(forged),
  },
  {
    row: 3,
    name: "devices of another federation's authority",
    harness: "coordinator",
    mutations: [
      without(
        "the pinned authority, by name and by signature",
        patch(CERTIFICATE, "equalBytes(body.authority, authority),", "true,"),
        SIGNED_BY_AUTHORITY,
      ),
    ],
    run: invented((_lab, name) => papersFor(name, newKey())),
  },
  {
    row: 3,
    name: "devices whose certificates have expired",
    harness: "coordinator",
    mutations: [without("a certificate's last day", patch(CERTIFICATE, "nowS <= body.notAfterS,", "true,"))],
    run: invented((lab, name) => papersFor(name, lab.world.authority, { notAfterS: nowS() - 60 })),
  },
  {
    row: 3,
    name: "names of real grants, bound to the attacker's keys without the token",
    harness: "coordinator",
    mutations: [
      without(
        "the token's signature on the device's key",
        patch(CERTIFICATE, `demand(bound, refuse("the token's binding of the device key", "another"));`, ""),
      ),
    ],
    run: invented(unbound),
  },
  {
    row: 3,
    name: "the coordinator counts itself as a member",
    harness: "coordinator",
    mutations: [without("a member's role is device", patch(CERTIFICATE, "body.role === role,", "true,"))],
    run: againstDevice((lab) => {
      const { coordinator } = lab.world.federation;
      const bought = papersFor("w1", lab.world.authority);
      return surrounded(lab, [new Corrupt({ ...coordinator, name: "coordinator" }), new Corrupt(bought)]);
    }),
  },
  {
    row: 3,
    name: "one key under two names",
    harness: "coordinator",
    mutations: [without("no key twice in a roster", patch(GROUP, "owner === undefined,", "true,"))],
    run: againstDevice((lab) => {
      const key = newKey();
      const papers = NAMES.map((name) => papersFor(name, lab.world.authority, {}, key));
      return surrounded(
        lab,
        papers.map((each) => new Corrupt(each)),
      );
    }),
  },
  {
    row: 3,
    name: "names that the device knows, under new keys: join files that leaked",
    harness: "coordinator",
    mutations: [
      without(
        "a name keeps the key it was first seen with",
        patch("apps/client-sdk/src/peers.ts", "pinned === undefined || pinned === key,", "true,"),
      ),
    ],
    run: againstDevice(async (lab) => {
      lab.honest(...NAMES);
      const invite = lab.invite();
      await (await lab.begin(invite)).share(lab.victim);
      lab.puppets = [];
      lab.bought(...NAMES);
      return await surroundedIn(lab, await lab.begin({ ...invite, attempt: 1 }));
    }),
  },
  {
    row: 3,
    name: "devices that the device knows as revoked, kept in its roster",
    harness: "coordinator",
    mutations: [
      without(
        "an owner's list of who was revoked, which the device keeps",
        patch("apps/client-sdk/src/revoked.ts", "revoked === undefined,", "true,"),
      ),
    ],
    run: againstDevice(async (lab) => {
      const grow = (list: RevocationList, name: string) =>
        withRevoked(list, { name, serial: random.bytes(16), nowS: nowS() });
      const list = signRevocations(NAMES.reduce(grow, NO_REVOCATIONS), lab.world.owner);
      await (await openFolderStore(lab.victim.folder)).putDocument(REVOKED, envelopeJson(list));
      lab.bought(...NAMES);
      return await surroundedIn(lab, await lab.begin());
    }),
  },
  {
    row: 3,
    name: "more devices of one site than the authority signed for it",
    harness: "coordinator",
    mutations: [
      without(
        "as many devices of a site in a roster as their certificates say",
        patch("libs/identity/src/sites.ts", "if (count <= limit) continue;", "continue;"),
      ),
    ],
    run: invented((lab, name) => papersFor(name, lab.world.authority, { site: "north", siteLimit: 1 })),
  },
  {
    row: 4,
    name: "the attacker's session keys in the places of honest devices",
    harness: "coordinator",
    mutations: [
      without(
        "session keys are signed by the certified key",
        patch(GROUP, "  demand(\n    signed,", "  demand(\n    true,"),
      ),
    ],
    run: againstDevice((lab) =>
      surrounded(
        lab,
        NAMES.map((name) => new Substitute(papersFor(name, lab.world.authority))),
      ),
    ),
  },
  {
    row: 4,
    name: "session keys of zero or small order, with which everything agreed is zero",
    harness: "coordinator",
    mutations: [
      without(
        "an agreement of all zeros is refused, and so is one that the platform refuses",
        patch(
          "libs/secagg/src/agree.ts",
          "demand(shared !== null && !isZero(shared), () => weak(whose));",
          "if (shared === null) return new Uint8Array(32);",
        ),
      ),
    ],
    run: againstDevice((lab) =>
      surrounded(
        lab,
        NAMES.map(
          (name, at) => new Zero(papersFor(name, lab.world.authority), [SMALL[2 * at]!, SMALL[2 * at + 1]!]),
        ),
      ),
    ),
  },
];
