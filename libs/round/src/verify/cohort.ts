import { hex } from "@tutti/foundation/bytes";
import { verify as portableVerify } from "@tutti/identity/keys";
import {
  type Crew,
  checkAdvertisement,
  checkDistinct,
  checkTerms,
  formCrew,
  fullGroup,
  type Group,
  isAscending,
  leastOf,
  sparseGroup,
} from "@tutti/secagg/group";
import { attestStatement, pickStatement } from "@tutti/secagg/statement";
import { checkSize, FULL_GRAPH, MIN_MEMBERS } from "@tutti/secagg/threshold";
import type { Terms } from "@tutti/wire/secagg";
import type { CohortTranscript } from "@tutti/wire/transcript";
import { type RoundSpec, termsOf } from "../spec.ts";
import { type Check, must, mustEqual, short, type Trust } from "./check.ts";
import { checkSpent } from "./privacy.ts";

export type CohortAt = {
  /** "cohort 1", for people. */
  readonly where: string;
  readonly spec: Pick<RoundSpec, "plan" | "task">;
  readonly trust: Trust;
};

/**
 * One sum's record, as each device checked it while it ran: terms, roster, sets, attestations. The session's
 * id is not in the record: it follows from what is, so signatures over it hold all of that together.
 * @throws Fault("refused" or "bad-message") naming the first thing wrong.
 */
export function checkCohort(cohort: CohortTranscript, at: CohortAt): { group: Group; checks: Check[] } {
  const terms = checkOwnTerms(cohort, at);
  const crew = checkMembers(cohort, terms, at);
  const group = checkPicks(cohort, crew, at);
  checkSets(cohort, group, at);
  checkAttestations(cohort, group, at);
  checkSpent(cohort, { ...at, group });
  const { senders, survivors, attested } = cohort;
  const { threshold, degree } = crew.size;
  const n = crew.parties.size;
  const said = (what: string, found: string) => ({ what: `${at.where}, ${what}`, found });
  const sets = `${senders.length} shared keys, ${survivors.length} are in the sum`;
  return {
    group,
    checks: [
      said("terms", `attempt ${terms.attempt + 1}; model, task and sizes are the plan's`),
      said("members", `${n} devices, each with a certificate and a signature for this attempt`),
      said("session", `${short(hex(group.sid))}, threshold ${threshold} of ${degree} share-holders`),
      said("sets", sets),
      said("attestations", `${attested.length} devices signed these sets, ${group.quorum} must`),
    ],
  };
}

/** What plan and task say; the attempt is the record's own word, which every member signed. */
function checkOwnTerms({ terms }: CohortTranscript, { where, spec }: CohortAt): Terms {
  must(`${where}, terms`, terms, { expected: "some", got: "none" });
  const own = termsOf({ ...spec, attempt: terms.attempt });
  for (const field of FIELDS)
    mustEqual(`${where}, terms: ${NAMES[field] ?? field}`, shown(own[field]), shown(terms[field]));
  checkTerms(terms);
  return terms;
}

const FIELDS = [
  "run",
  "round",
  "modelHash",
  "taskHash",
  "bits",
  "length",
  "plain",
  "corrupt",
  "lost",
] as const;
const NAMES: Readonly<Record<string, string>> = { modelHash: "model hash", taskHash: "task hash" };

function shown(value: Uint8Array | string | number | boolean): string {
  return value instanceof Uint8Array ? hex(value) : String(value);
}

function checkMembers({ members }: CohortTranscript, terms: Terms, { where, trust }: CohortAt): Crew {
  checkSize(members.length);
  must(`${where}, members`, members.length >= MIN_MEMBERS, {
    expected: `at least ${MIN_MEMBERS}`,
    got: `${members.length}`,
  });
  const parties = members.map((member) => checkAdvertisement(member, terms, trust));
  ascending(
    `${where}, members`,
    parties.map(({ name }) => name),
  );
  checkDistinct(parties);
  return formCrew(terms, parties);
}

/** U1: up to 100 all who advertised; beyond, those who picked holders, every pick signed by its member. */
function checkPicks({ picks }: CohortTranscript, crew: Crew, { where, trust }: CohortAt): Group {
  const { verify = portableVerify } = trust;
  const what = `${where}, picks`;
  const names = [...crew.parties.keys()];
  const sparse = names.length > FULL_GRAPH;
  const least = sparse ? leastOf(crew) : 0;
  must(what, picks.length >= least && (sparse || picks.length === 0), {
    expected: sparse ? `at least ${least}` : "none",
    got: `${picks.length}`,
  });
  if (!sparse) return fullGroup(crew);
  const order = picks.every(({ member }, at) => at === 0 || picks[at - 1]!.member < member);
  must(what, order && picks.at(-1)!.member < names.length, {
    expected: "members of the roster, each once, ascending",
    got: "others",
  });
  for (const { member, holders, signature } of picks) {
    const { name, publicKey } = crew.parties.get(names[member]!)!;
    const statement = pickStatement(crew.terms, { root: crew.root, holders });
    must(what, verify(publicKey, statement, signature), { expected: `${name}'s signature`, got: "another" });
  }
  return sparseGroup(crew, picks);
}

/** U3 ⊆ U2 ⊆ U1, enough of each, and in the plan's bounds where the sum counted. */
function checkSets(cohort: CohortTranscript, group: Group, { where, spec }: CohortAt): void {
  const { senders, survivors, counted } = cohort;
  const { min, max } = spec.plan.cohort;
  const inside = (what: string, names: readonly string[], outer: Iterable<string>) => {
    ascending(`${where}, ${what}`, names);
    const all = new Set(outer);
    const stranger = names.find((name) => !all.has(name));
    must(`${where}, ${what}`, stranger === undefined, {
      expected: "devices of the stage before",
      got: stranger ?? "",
    });
    const got = `${names.length}`;
    must(`${where}, ${what}`, names.length >= group.least, {
      expected: `at least ${group.least}`,
      got,
    });
  };
  inside("senders", senders, group.parties.keys());
  inside("survivors", survivors, senders);
  must(`${where}, survivors`, survivors.length <= max && (!counted || survivors.length >= min), {
    expected: `${min}..${max}, as the plan says`,
    got: `${survivors.length}`,
  });
}

/** U4 ⊆ U3, each once, each signature good over exactly these sets, a quorum of them (Fig. 4, round 4). */
function checkAttestations(cohort: CohortTranscript, group: Group, { where, trust }: CohortAt): void {
  const { senders, survivors, attested } = cohort;
  const { verify = portableVerify } = trust;
  const what = `${where}, attestations`;
  const statement = attestStatement(group.sid, { root: group.root, senders, survivors });
  const alive = new Set(survivors);
  ascending(
    what,
    attested.map(({ device }) => device),
  );
  for (const { device, signature } of attested) {
    must(what, alive.has(device), { expected: "signatures of survivors", got: `one of ${device}` });
    must(what, verify(group.parties.get(device)!.publicKey, statement, signature), {
      expected: `${device}'s signature over this session's members, senders and survivors`,
      got: "another",
    });
  }
  must(what, attested.length >= group.quorum, {
    expected: `at least ${group.quorum}`,
    got: `${attested.length}`,
  });
}

function ascending(what: string, names: readonly string[]): void {
  must(what, isAscending(names), { expected: "each name once, ascending", got: "another order" });
}
