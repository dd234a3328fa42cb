import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { encode } from "@tutti/wire/message";
import { AdvertisementSchema, type Roster, type Terms } from "@tutti/wire/secagg";
import {
  type Crew,
  checkAdvertisement,
  checkCertified,
  checkDistinct,
  formCrew,
  isAscending,
} from "../group.ts";
import { checkSize, FULL_GRAPH, MAX_MEMBERS, MIN_MEMBERS } from "../threshold.ts";
import { DEFAULT_CORRUPT, type Member } from "./member.ts";
import type { Advertised } from "./state.ts";

/**
 * Stage 1's checks (docs/protocol.md, Secure aggregation): the device's own terms; enough members for its own
 * floor; every certificate and signature good; every name and key once; itself present, as it advertised; the
 * threshold that follows.
 */
export function checkRoster({ member, terms, advertisement }: Advertised, roster: Roster): Crew {
  checkSameTerms(terms, roster.terms);
  const n = roster.members.length;
  checkSize(n, Math.min(MAX_MEMBERS, member.most ?? MAX_MEMBERS));
  atLeast("members", Math.max(member.floor.devices, MIN_MEMBERS), n);
  const trust = {
    authority: member.authority,
    nowS: member.nowS,
    ...(member.verify && { verify: member.verify }),
  };
  // Of more than 100 members each whose keys this device uses signs this very roster, and itself in it, with
  // its picks; the rest stand behind it with their attestations.
  const parties = roster.members.map((each) =>
    n > FULL_GRAPH ? checkCertified(each, trust) : checkAdvertisement(each, terms, trust),
  );
  const sorted = isAscending(parties.map(({ name }) => name));
  demand(
    sorted,
    () => new Fault("refused", "roster", { expected: "each name once, ascending", got: "another order" }),
  );
  checkDistinct(parties);
  const crew = formCrew(terms, parties);
  checkSelf(member, crew, encode(AdvertisementSchema, advertisement));
  checkSizes(member, crew, roster);
  return crew;
}

/** Sizes are the device's own arithmetic; the roster only repeats them. */
function checkSizes({ floor }: Member, { parties, size, terms }: Crew, roster: Roster): void {
  const n = parties.size;
  const own = `${size.threshold} of ${size.degree} holders, ${n} members`;
  const told = `${roster.threshold} of ${roster.degree}`;
  const same = roster.threshold === size.threshold && roster.degree === size.degree;
  demand(same, () => new Fault("refused", "threshold", { expected: own, got: told }));
  atLeast("threshold", floor.threshold, size.threshold);
  if (n > FULL_GRAPH) atLeast("corrupt members per 1000", floor.corrupt ?? DEFAULT_CORRUPT, terms.corrupt);
}

/** A device's floors hold whatever the coordinator says. */
export function atLeast(what: string, floor: number, count: number): void {
  demand(
    count >= floor,
    () => new Fault("refused", what, { expected: `at least ${floor}, this device's floor`, got: `${count}` }),
  );
}

function checkSelf({ name }: Member, { parties }: Crew, own: Uint8Array): void {
  const listed = parties.get(name);
  const same = listed && equalBytes(encode(AdvertisementSchema, listed.advertisement), own);
  demand(
    same,
    () =>
      new Fault("refused", `${name} in the roster`, {
        expected: "its own keys",
        got: listed ? "others" : "none",
      }),
  );
}

const SAME = ["run", "round", "attempt", "bits", "length", "plain", "corrupt", "lost"] as const;

/** The first difference by name: which of model, task and sizes a coordinator would have changed. */
function checkSameTerms(own: Terms, theirs: Terms | undefined): void {
  const refuse = (field: string) => () =>
    new Fault("refused", `terms: ${field}`, { expected: "what this device was asked to do", got: "another" });
  demand(theirs, refuse("all"));
  demand(equalBytes(own.modelHash, theirs.modelHash), refuse("model hash"));
  demand(equalBytes(own.taskHash, theirs.taskHash), refuse("task hash"));
  for (const field of SAME) {
    demand(own[field] === theirs[field], refuse(field));
  }
}
