import { Memo } from "@tutti/foundation/memo";
import { create } from "@tutti/wire/message";
import {
  AttestationSchema,
  AttestationsSchema,
  DeliverySchema,
  type Envelope,
  type Pick as Picked,
  PickSchema,
  PicksSchema,
  RosterSchema,
  SurvivorsSchema,
} from "@tutti/wire/secagg";
import { crewOf, groupOf, type ServerSession, type Word } from "./state.ts";

// What a coordinator says in each stage, from the session alone. A word is the same object for as long as its
// stage lasts, and one to everybody for everybody: who sends it may encode it once.

/** A word to everybody, or the deliveries, by device. */
type About = "roster" | "picks" | "survivors" | "attestations" | { readonly to: string };

const said = new Memo<object, Map<string, Word>>();

/** One word for each object that a stage's word follows from. */
function kept(from: object, about: About, make: () => Word): Word {
  const words = said.of(from, () => new Map());
  const name = typeof about === "string" ? about : `to ${about.to}`;
  const word = words.get(name) ?? make();
  words.set(name, word);
  return word;
}

/** Stage 0's outcome: to pick holders from, or up to 100 members to share with. */
export function rosterWord(session: ServerSession): Word {
  const crew = crewOf(session);
  return kept(crew, "roster", () => {
    const { terms, parties, size } = crew;
    const members = [...parties.values()].map(({ advertisement }) => advertisement);
    return { kind: "roster", message: create(RosterSchema, { terms, members, ...size }) };
  });
}

export function picksWord(session: ServerSession): Word {
  return kept(groupOf(session), "picks", () => {
    const message = create(PicksSchema, { roster: crewOf(session).root, picks: picksOf(session) });
    return { kind: "picks", message };
  });
}

/** Everybody's picks, by place. */
export function picksOf(session: ServerSession): Picked[] {
  return [...crewOf(session).parties.keys()].flatMap((name, member) => {
    const request = session.picked.get(name);
    if (!request) return [];
    const { holders, signature } = request;
    return [create(PickSchema, { member, holders, signature })];
  });
}

export function deliveryWord(session: ServerSession, device: string): Word {
  return kept(session.senders, { to: device }, () => {
    const { sid, graph } = groupOf(session);
    const addressed = envelopesOf(session).get(device) ?? [];
    const envelopes = addressed.filter(({ from }) => session.shared.has(from));
    const senders = graph.picked === null ? [] : [...session.senders];
    return { kind: "delivery", message: create(DeliverySchema, { session: sid, envelopes, senders }) };
  });
}

const sorted = new Memo<readonly string[], Map<string, Envelope[]>>();

/** Every envelope by its reader, in the order of senders; made once when the stage is closed. */
function envelopesOf(session: ServerSession): Map<string, Envelope[]> {
  return sorted.of(session.senders, () => sortEnvelopes(session));
}

function sortEnvelopes({ senders, shared }: ServerSession): Map<string, Envelope[]> {
  const to = new Map<string, Envelope[]>();
  for (const sender of senders) {
    for (const envelope of shared.get(sender)!.envelopes) {
      const list = to.get(envelope.to) ?? [];
      list.push(envelope);
      to.set(envelope.to, list);
    }
  }
  return to;
}

export function survivorsWord(session: ServerSession): Word {
  return kept(session.survivors, "survivors", () => {
    const message = create(SurvivorsSchema, {
      session: groupOf(session).sid,
      devices: [...session.survivors],
    });
    return { kind: "survivors", message };
  });
}

export function attestationsWord(session: ServerSession): Word {
  return kept(session.signers, "attestations", () => {
    const signed = session.signers.map((device) => {
      return create(AttestationSchema, { device, signature: session.attested.get(device)!.signature });
    });
    const message = create(AttestationsSchema, { session: groupOf(session).sid, signed });
    return { kind: "attestations", message };
  });
}
