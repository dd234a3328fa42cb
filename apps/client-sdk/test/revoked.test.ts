import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { envelopeJson } from "@tutti/release/dsse";
import { NO_REVOCATIONS, signRevocations, withRevoked } from "@tutti/release/revocations";
import { NoticeSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import { RosterSchema } from "@tutti/wire/secagg";
import { expect, test } from "vitest";
import type { DeviceEvent } from "../src/events.ts";
import { admitMembers, keptRevocations, REVOKED } from "../src/revoked.ts";
import type { Site } from "../src/site.ts";
import { Standing } from "../src/standing.ts";
import { memoryStore } from "../src/store.ts";
import { federation, NOW_S, policyOf } from "./fixture.ts";

const fed = federation();
const serial = platformRandom().bytes(16);
const one = withRevoked(NO_REVOCATIONS, { name: "bob", serial, nowS: NOW_S });
const two = withRevoked(one, { name: "eve", serial, nowS: NOW_S });
const signed = (list = two) => signRevocations(list, fed.owner);

/** A device that is told of a version of the list, and gets this one when it asks. */
async function told(store: Site["store"], version: number, gets: SignedEnvelope) {
  const events: DeviceEvent[] = [];
  const { key, certificate } = fed.device("ann");
  const site = {
    identity: { federation: "test", name: "ann", key, certificate, authority: fed.authority },
    policy: policyOf(fed),
    link: { standing: { revocations: async () => gets } },
    store,
    clock: { nowMs: () => 0, wallMs: () => NOW_S * 1000, sleep: async () => {}, turn: async () => {} },
    jitter: seededRandom("ann"),
    emit: (event: DeviceEvent) => events.push(event),
  } as unknown as Site;
  const standing = new Standing(site, new AbortController().signal);
  standing.greeted(create(NoticeSchema, { revocations: version }));
  await standing.settled();
  return events.flatMap((event) => (event.kind === "refused" ? [event.because.message] : []));
}

test("a coordinator that speaks of a new list and sends an old one has nobody let in again", async () => {
  const store = memoryStore();
  expect(await told(store, 2, signed(two))).toEqual([]);
  expect(await told(store, 99, signed(one))).toEqual([
    expect.stringMatching(/revocations: expected a version after 2, got 1/),
  ]);
  // Nor does one that lacks somebody, whatever its version says.
  const less = { ...one, version: 99 };
  expect(await told(store, 99, signed(less))).toEqual([expect.stringMatching(/a list without eve/)]);
  const { version, revocations } = await keptRevocations(store);
  expect([version, revocations.map(({ name }) => name)]).toEqual([2, ["bob", "eve"]]);
});

test("a damaged list admits nobody: it is not an empty one", async () => {
  const { certificate } = fed.device("ann");
  const roster = create(RosterSchema, { members: [{ certificate }] });
  const admits = (text: string | null) => {
    const store = memoryStore();
    const kept = text === null ? Promise.resolve() : store.putDocument(REVOKED, text);
    return kept.then(() => admitMembers(store, roster));
  };
  const whole = envelopeJson(signed());
  for (const text of [null, whole]) await expect(admits(text)).resolves.toBeUndefined();
  const other = whole.replace("tutti.revocations", "tutti.releases");
  const lost = whole.replace(/"payload": ?"[^"]*"/, '"payload":""');
  for (const text of ["", "{", whole.slice(0, 40), other, lost])
    await expect(admits(text), text).rejects.toMatchObject({
      code: "storage",
      what: `documents/${REVOKED}.json`,
    });
});
