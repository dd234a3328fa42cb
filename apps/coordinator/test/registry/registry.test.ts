import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { bind, issue } from "@tutti/identity/certificate";
import { newSeed, type SigningKey, signingKey, verify } from "@tutti/identity/keys";
import { completeRenewal, grantRenewal, requestRenewal } from "@tutti/identity/renewal";
import { NO_REVOCATIONS, openRevocations, signRevocations, withRevoked } from "@tutti/release/revocations";
import { openTlsCertificates } from "@tutti/release/tls";
import type { Certificate, Notice } from "@tutti/wire/device";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Notices } from "../../src/registry/notices.ts";
import { Registry } from "../../src/registry/registry.ts";
import { openStore, type Store } from "../../src/store/store.ts";

const random = platformRandom();
const newKey = () => signingKey(newSeed(random));
const [authority, ownerKey, coordinatorKey] = [newKey(), newKey(), newKey()];
const DAY_S = 86_400;
const START_S = 1_800_000_000;
const within = { notBeforeS: START_S - 10, notAfterS: START_S + 900 * DAY_S };
const signer = (role: "owner" | "coordinator", key: SigningKey) => ({
  key,
  certificate: issue(authority, {
    role,
    name: role,
    publicKey: key.publicKey,
    serial: random.bytes(16),
    ...within,
  }),
});
const [owner, coordinator] = [signer("owner", ownerKey), signer("coordinator", coordinatorKey)];

type Change = { site?: string; siteLimit?: number; days?: number; enrolBeforeS?: number };

function deviceOf(name: string, change: Change = {}) {
  const [token, key] = [newKey(), newKey()];
  const { site = "", siteLimit = 0, days = 90, enrolBeforeS = 0 } = change;
  const grant = issue(authority, {
    role: "device",
    name,
    publicKey: token.publicKey,
    notBeforeS: START_S - 10,
    notAfterS: START_S + days * DAY_S,
    serial: random.bytes(16),
    site,
    siteLimit,
    enrolBeforeS,
  });
  return { name, key, certificate: bind(grant, token, key.publicKey) };
}

let folder: string;
let store: Store;
let registry: Registry;
let notices: Notices;
let nowS = START_S;
let heard: Pick<Notice, "revocations" | "tlsCertificates">[];
const clock = { ...systemClock(), wallMs: () => nowS * 1000 };
const trust = () => ({ authority: authority.publicKey, nowS, verify });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-registry-"));
  nowS = START_S;
  heard = [];
  await open();
});
afterEach(async () => {
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

async function open(devicesPerSite?: number): Promise<void> {
  store = await openStore({ file: join(folder, "tutti.sqlite") });
  const identity = { renewalGraceDays: 30, clientCertificates: "off", devicesPerSite };
  const federation = { authority: authority.publicKey, owners: [], coordinator, config: { identity } };
  const parts = { store, federation: federation as never, clock, verify };
  registry = new Registry(parts);
  notices = new Notices({ ...parts, onNews: (news) => heard.push(news) });
  await notices.start();
}

const why = async (name: string) => (await registry.lookup(name))?.denied?.what;

describe("certificates", () => {
  test("expire by name, and renew with the same key and nobody's help but the authority's", async () => {
    const ann = deviceOf("ann");
    await registry.enrol(ann.certificate);
    nowS = START_S + 70 * DAY_S;
    const ask = (certificate: Certificate, days = 90) =>
      registry.renew(requestRenewal(ann.key, { certificate, days, nowS }));
    expect(await ask(ann.certificate)).toBe(null);
    const [request] = await registry.renewals();
    const identity = { ...(await registry.enrol(ann.certificate)), publicKey: ann.key.publicKey };
    const grant = grantRenewal(authority, { identity, days: request!.days, nowS, serial: random.bytes(16) });
    await registry.grant("ann", grant);
    expect(await registry.renewals()).toEqual([]);
    const fetched = (await ask(ann.certificate))!;
    const renewed = completeRenewal(ann.key, {
      grant: fetched,
      present: ann.certificate,
      authority: authority.publicKey,
      nowS,
    });
    nowS = START_S + 91 * DAY_S;
    expect(await why("ann")).toBe("device ann: expired");
    // The one that expired yesterday is not needed to take up the new one.
    expect(await ask(renewed, 0)).toBe(null);
    expect(await why("ann")).toBe(undefined);
    // An older one, said again, changes nothing.
    await ask(ann.certificate, 0);
    expect(await why("ann")).toBe(undefined);
    nowS = START_S + 161 * DAY_S;
    expect(await why("ann")).toBe("device ann: expired");
  });

  test("a device that asks again and again is written down once, and in turn with itself", async () => {
    const [ann, bob] = [deviceOf("ann"), deviceOf("bob")];
    for (const { certificate } of [ann, bob]) await registry.enrol(certificate);
    const { askRenewal } = store.trust;
    let [busy, most, calls] = [0, 0, 0];
    store.trust.askRenewal = async (asking) => {
      most = Math.max(most, ++busy);
      calls++;
      await new Promise(setImmediate);
      busy--;
      return await askRenewal(asking);
    };
    const ask = ({ key, certificate }: typeof ann, days: number, atS = nowS) =>
      registry.renew(requestRenewal(key, { certificate, days, nowS: atS }));
    const many = Array.from({ length: 20 }, (_, at) => ask(ann, 90, nowS + at));
    await Promise.all(many);
    expect([most, calls]).toEqual([1, 20]);
    // The first of them is kept: the others ask for the same.
    expect((await registry.renewals()).map(({ askedAtS }) => askedAtS)).toEqual([nowS]);
    await ask(ann, 30, nowS + 40);
    expect((await registry.renewals()).map(({ days }) => days)).toEqual([30]);
    await Promise.all([ask(ann, 30), ask(bob, 30)]);
    expect(most).toBe(2);
  });

  test("one that fails does not keep the next from its turn", async () => {
    const ann = deviceOf("ann");
    await registry.enrol(ann.certificate);
    const { askRenewal } = store.trust;
    store.trust.askRenewal = async () => {
      store.trust.askRenewal = askRenewal;
      throw new Fault("unavailable", "a test");
    };
    const ask = () =>
      registry.renew(requestRenewal(ann.key, { certificate: ann.certificate, days: 90, nowS }));
    const [first, second] = await Promise.allSettled([ask(), ask()]);
    expect([first.status, second]).toEqual(["rejected", { status: "fulfilled", value: null }]);
  });

  test("an expired device asks within the grace period, and not after it", async () => {
    const ann = deviceOf("ann");
    await registry.enrol(ann.certificate);
    const ask = () =>
      registry.renew(requestRenewal(ann.key, { certificate: ann.certificate, days: 90, nowS }));
    nowS = START_S + 120 * DAY_S;
    expect(await ask()).toBe(null);
    nowS += 1;
    await expect(ask()).rejects.toThrow("expired");
  });

  test("nothing is kept for who is unknown or revoked, or has another key", async () => {
    const [ann, bob, eve] = [deviceOf("ann"), deviceOf("bob"), deviceOf("ann")];
    await registry.enrol(ann.certificate);
    const ask = ({ key, certificate }: typeof ann) =>
      registry.renew(requestRenewal(key, { certificate, days: 90, nowS }));
    await expect(ask(bob)).rejects.toMatchObject({ what: "device bob: unknown" });
    await expect(ask(eve)).rejects.toThrow("the key it enrolled with");
    await store.trust.revoke("ann", null);
    await expect(ask(ann)).rejects.toMatchObject({ what: "device ann: revoked" });
    expect(await why("ann")).toBe("device ann: revoked");
    expect(await registry.renewals()).toEqual([]);
  });

  test("what is uploaded for a device must be the authority's, for its name and its key", async () => {
    const [ann, bob] = [deviceOf("ann"), deviceOf("bob")];
    const [annId] = [await registry.enrol(ann.certificate), await registry.enrol(bob.certificate)];
    const grant = (by: SigningKey, change: object = {}) =>
      grantRenewal(by, { identity: { ...annId, ...change }, days: 9, nowS, serial: random.bytes(16) });
    await expect(registry.grant("ann", grant(ownerKey))).rejects.toThrow("authority");
    await expect(registry.grant("bob", grant(authority))).rejects.toThrow("one for bob");
    const other = grant(authority, { publicKey: bob.key.publicKey });
    await expect(registry.grant("ann", other)).rejects.toThrow("the key it enrolled with");
    await expect(registry.grant("ann", grant(authority))).rejects.toThrow("no request");
    // No store is asked of a name that no certificate can have.
    store.device = async (name) => expect.unreachable(name);
    await expect(registry.grant("ann\0", grant(authority))).rejects.toMatchObject({ code: "bad-input" });
  });

  test("a token ends before the certificate does, but not for who used it in time", async () => {
    const enrolBeforeS = START_S + 14 * DAY_S;
    const [ann, bob] = [deviceOf("ann", { enrolBeforeS }), deviceOf("bob", { enrolBeforeS })];
    nowS = enrolBeforeS;
    await registry.enrol(ann.certificate);
    nowS += 1;
    await expect(registry.enrol(bob.certificate)).rejects.toMatchObject({
      code: "refused",
      what: "token of bob",
      detail: { got: expect.stringMatching(/^one that expired on \d{4}-\d\d-\d\d$/) },
    });
    await registry.enrol(ann.certificate);
    expect(await why("ann")).toBe(undefined);
  });

  test("a site is full at the authority's limit, whatever the operator allows, or sooner", async () => {
    const at = (name: string, siteLimit: number) =>
      registry.enrol(deviceOf(name, { site: "north", siteLimit }).certificate);
    await at("a", 2);
    await at("b", 2);
    await expect(at("c", 2)).rejects.toMatchObject({ code: "refused", what: "device c" });
    await store.close();
    await open(3);
    await at("c", 0);
    await expect(at("d", 9)).rejects.toThrow("at most 3 devices of site north");
    await registry.enrol(deviceOf("e").certificate);
  });
});

describe("lists of who was revoked", () => {
  const next = (...names: string[]) => {
    const grow = (list: typeof NO_REVOCATIONS, name: string) =>
      withRevoked(list, { name, serial: Uint8Array.of(1), nowS });
    return signRevocations(names.reduce(grow, NO_REVOCATIONS), owner);
  };
  const revoke = async (envelope: ReturnType<typeof next>, name: string) => {
    const { statement, kept } = notices.nextRevocations(envelope, name);
    await store.trust.revoke(name, statement);
    kept();
    notices.tell();
  };

  test("are kept, told, and only grow", async () => {
    for (const name of ["ann", "bob"]) await registry.enrol(deviceOf(name).certificate);
    expect(notices.revocations().payload).toHaveLength(0);
    await revoke(next("ann"), "ann");
    expect(heard).toEqual([{ revocations: 1, tlsCertificates: 0 }]);
    await revoke(next("ann", "bob"), "bob");
    expect(() => notices.nextRevocations(next("bob"), "bob")).toThrow("a version after 2");
    expect(() => notices.nextRevocations(next("a", "b", "c"), "c")).toThrow("a list without ann");
    expect(() => notices.nextRevocations(next("ann", "bob", "c"), "d")).toThrow("a list with d");
    await store.close();
    await open();
    const { list } = openRevocations(notices.revocations(), trust());
    expect(list.revocations.map(({ name }) => name)).toEqual(["ann", "bob"]);
  });
});

describe("TLS certificates", () => {
  const good = () => true;
  const shown = () => openTlsCertificates(notices.tlsCertificates(), trust());

  test("are signed anew where another is shown, it first, those of before while they last", async () => {
    const [one, two, three] = [1, 2, 3].map((byte) => Uint8Array.of(byte)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    await notices.shows([one], good);
    await notices.shows([one], good);
    expect([shown().version, shown().certificates]).toEqual([1, [one]]);
    await notices.shows([two], good);
    expect([shown().version, shown().certificates]).toEqual([2, [two, one]]);
    await store.close();
    await open();
    await notices.shows([three], (der) => der[0] !== 1);
    expect([shown().version, shown().certificates]).toEqual([3, [three, two]]);
    expect(heard.map(({ tlsCertificates }) => tlsCertificates)).toEqual([1, 2, 3]);
  });

  test.each(["before", "after"] as const)(
    "the store fails %s it keeps them: the next go on",
    async (when) => {
      const [one, two, three] = [Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(3)];
      await notices.shows([one], good);
      const put = store.trust.putStatement;
      let left = 1;
      store.trust.putStatement = async (...about) => {
        const fails = left-- > 0;
        if (!fails || when === "after") await put(...about);
        if (fails) throw new Fault("unavailable", "a test");
      };
      const shown2 = notices.shows([two], good);
      if (when === "before") await expect(shown2).rejects.toMatchObject({ code: "unavailable" });
      else await shown2;
      nowS += 60;
      await notices.shows([two], good);
      expect([shown().version, shown().certificates]).toEqual([2, [two, one]]);
      await notices.shows([three], good);
      expect([shown().version, shown().certificates]).toEqual([3, [three, two, one]]);
      expect(heard.map(({ tlsCertificates }) => tlsCertificates)).toEqual([1, 2, 3]);
    },
  );
});
