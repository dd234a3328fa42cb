import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { encode } from "@tutti/wire/message";
import { AdvertisementSchema, type Roster, type Terms } from "@tutti/wire/secagg";
import { checkAdvertisement, checkDistinct, formGroup, type Group, isAscending } from "../group.ts";
import { checkSize, MIN_MEMBERS } from "../threshold.ts";
import type { Member } from "./member.ts";
import type { Advertised } from "./state.ts";

/**
 * Stage 1's checks (docs/protocol.md, Secure aggregation): the device's own terms; enough members for its own
 * floor; every certificate and signature good; every name and key once; itself present, as it advertised; the
 * threshold that follows.
 */
export function checkRoster({ member, terms, advertisement }: Advertised, roster: Roster): Group {
  checkSameTerms(terms, roster.terms);
  const n = roster.members.length;
  checkSize(n);
  atLeast("members", Math.max(member.floor.devices, MIN_MEMBERS), n);
  const trust = {
    authority: member.authority,
    nowS: member.nowS,
    ...(member.verify && { verify: member.verify }),
  };
  const parties = roster.members.map((each) => checkAdvertisement(each, terms, trust));
  const sorted = isAscending(parties.map(({ name }) => name));
  demand(
    sorted,
    () => new Fault("refused", "roster", { expected: "each name once, ascending", got: "another order" }),
  );
  checkDistinct(parties);
  const group = formGroup(terms, parties);
  checkSelf(member, group, encode(AdvertisementSchema, advertisement));
  demand(
    roster.threshold === group.threshold,
    () =>
      new Fault("refused", "threshold", {
        expected: `${group.threshold} of ${n}`,
        got: `${roster.threshold}`,
      }),
  );
  atLeast("threshold", member.floor.threshold, group.threshold);
  return group;
}

/** A device's floors hold whatever the coordinator says. */
export function atLeast(what: string, floor: number, count: number): void {
  demand(
    count >= floor,
    () => new Fault("refused", what, { expected: `at least ${floor}, this device's floor`, got: `${count}` }),
  );
}

function checkSelf({ name }: Member, group: Group, own: Uint8Array): void {
  const listed = group.parties.get(name);
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

/** The first difference by name: which of model, task and sizes a coordinator would have changed. */
function checkSameTerms(own: Terms, theirs: Terms | undefined): void {
  const refuse = (field: string) => () =>
    new Fault("refused", `terms: ${field}`, { expected: "what this device was asked to do", got: "another" });
  demand(theirs, refuse("all"));
  demand(equalBytes(own.modelHash, theirs.modelHash), refuse("model hash"));
  demand(equalBytes(own.taskHash, theirs.taskHash), refuse("task hash"));
  for (const field of ["run", "round", "attempt", "bits", "length", "plain"] as const) {
    demand(own[field] === theirs[field], refuse(field));
  }
}
