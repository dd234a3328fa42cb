import { findGraph } from "@tutti/secagg/finder";
import { encodePlaces } from "@tutti/secagg/picks";
import { pickStatement, rosterRoot } from "@tutti/secagg/statement";
import { create } from "@tutti/wire/message";
import { DeliverySchema, type PickRequest, PicksSchema, RosterSchema } from "@tutti/wire/secagg";
import { combine } from "shamir-secret-sharing";
import type { Attempt } from "../harness/attempt.ts";
import { Corrupt } from "../harness/corrupt.ts";
import { againstDevice, type Lab } from "../harness/lab.ts";
import { answerOf } from "../harness/sent.ts";
import { papersFor } from "../harness/world.ts";
import { type Outcome, patch, type Scenario, without } from "../scenario.ts";

const MEMBERS = 101;

/**
 * A hundred others, of whom 33 are bought, as many as the quorum allows for: 32 of these in the place of the
 * holders that the victim picked have both of its secrets.
 */
async function chosenHolders(lab: Lab): Promise<Outcome> {
  const { authority } = lab.world;
  const names = Array.from({ length: MEMBERS - 1 }, (_, at) => `d${String(at).padStart(3, "0")}`);
  lab.corrupt = names.map((name) => new Corrupt(papersFor(name, authority)));
  const attempt = await lab.begin();
  const { corrupt, lost } = attempt.terms;
  const size = findGraph({ n: MEMBERS, corrupt: corrupt / 1000, lost: lost / 1000, malicious: true });
  const roster = create(RosterSchema, { ...attempt.roster(), ...size });
  const own = answerOf(await lab.victim.ask({ case: "roster", value: roster }), "pick");
  const order = roster.members.map((each) => [...attempt.adverts].find(([, advert]) => advert === each)![0]);
  const root = rosterRoot(roster.members);
  const bought = order.slice(0, size.degree).map((name) => order.indexOf(name));
  const picks = order.map((name, member) => {
    const places = bought.map((place) => (place === member ? size.degree : place)).sort((a, b) => a - b);
    const holders = encodePlaces(places);
    const papers = lab.corrupt.find((one) => one.name === name)?.papers;
    const signature = papers?.key.sign(pickStatement(attempt.terms, { root, holders }));
    return { member, holders, signature: signature ?? own.signature };
  });
  const answer = await lab.victim.ask({ case: "picks", value: create(PicksSchema, { roster: root, picks }) });
  attempt.dealt(lab.victim, answerOf(answer, "share"));
  await attempt.mask(
    lab.victim,
    create(DeliverySchema, { session: attempt.sid, senders: order, envelopes: [] }),
  );
  return await opened(lab, attempt, { size, own });
}

/** Both secrets from the shares of the attacker's holders. */
async function opened(
  lab: Lab,
  attempt: Attempt,
  { size }: { size: { threshold: number }; own: PickRequest },
): Promise<Outcome> {
  const holders = attempt.shared.get("victim")!.envelopes.map(({ to }) => to);
  const theirs = lab.corrupt.filter(({ name }) => holders.includes(name)).slice(0, size.threshold);
  const held = theirs.map((one) => attempt.heldBy(one, "victim"));
  const seed = await combine(held.map(({ seedShare }) => Uint8Array.from(seedShare)));
  const secret = await combine(held.map(({ maskKeyShare }) => Uint8Array.from(maskKeyShare)));
  const pairs = new Map(holders.map((name) => [name, attempt.pair(secret, ["victim", name])] as const));
  return await lab.bared(attempt.bare("victim", { seed, pairs }), `${size.threshold} holders of its choice`);
}

export const SPARSE: readonly Scenario[] = [
  {
    row: 14,
    name: "the coordinator picks who holds a device's shares, of more than a hundred",
    harness: "coordinator",
    mutations: [
      without(
        "a device shares with those whom it picked itself",
        patch("libs/secagg/src/device/picks.ts", "demand(same, refuse(", "demand(true, refuse("),
      ),
    ],
    run: againstDevice(chosenHolders, { cohort: { min: 3, max: 200 } }),
  },
];
