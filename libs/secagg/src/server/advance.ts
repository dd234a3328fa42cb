import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Crew, formCrew, fullGroup, type Group, leastOf, sparseGroup } from "../group.ts";
import { FULL_GRAPH, MIN_MEMBERS } from "../threshold.ts";
import { lacking } from "./revealed.ts";
import { crewOf, groupOf, type ServerSession } from "./state.ts";
import { picksOf } from "./words.ts";

/**
 * Closes the stage in progress with who came; who did not is out, and that costs only itself while t remain.
 * Fewer than t fail the session, with a reason, and nothing is revealed.
 * @throws Fault("conflict") when the session is over.
 */
export function advance(session: ServerSession): ServerSession {
  switch (session.phase) {
    case "advertising":
      return closeAdvertising(session);
    case "picking":
      return closePicking(session);
    case "sharing": {
      const senders = [...session.shared.keys()].sort();
      return ifEnough(session, "shared", { came: senders, next: { ...session, phase: "masking", senders } });
    }
    case "masking": {
      const survivors = [...session.uploaded].sort();
      return ifEnough(session, "uploaded", {
        came: survivors,
        next: { ...session, phase: "attesting", survivors },
      });
    }
    case "attesting": {
      const signers = [...session.attested.keys()].sort();
      const { quorum, parties } = groupOf(session);
      if (signers.length >= quorum) return { ...session, phase: "revealing", signers };
      return fail(session, `${signers.length} of ${parties.size} devices attested, at least ${quorum} must`);
    }
    case "revealing":
      return closeRevealing(session);
    case "complete":
    case "failed":
      throw new Fault("conflict", "session", {
        expected: "one in progress",
        got: `one that is ${session.phase}`,
      });
  }
}

/** Up to 100 members this is U1, and with it sid and t; more of them pick their holders first. */
function closeAdvertising(session: ServerSession): ServerSession {
  const { advertised, terms } = session;
  if (advertised.size < MIN_MEMBERS)
    return fail(session, `${advertised.size} of at least ${MIN_MEMBERS} devices advertised keys`);
  let crew: Crew;
  try {
    crew = formCrew(terms, advertised.values());
  } catch (fault) {
    // No graph withstands what the terms ask of so many.
    if (fault instanceof Fault) return { ...session, phase: "failed", reason: fault.message };
    throw fault;
  }
  if (advertised.size > FULL_GRAPH) return { ...session, phase: "picking", crew };
  return begun({ ...session, crew }, fullGroup(crew));
}

/** Who sent no list leaves the roster. */
function closePicking(session: ServerSession): ServerSession {
  const crew = crewOf(session);
  const least = leastOf(crew);
  if (session.picked.size < least)
    return fail(
      session,
      `${session.picked.size} of ${crew.parties.size} devices picked, at least ${least} must`,
    );
  return begun(session, sparseGroup(crew, picksOf(session)));
}

function begun(session: ServerSession, group: Group): ServerSession {
  assert(group.parties.size < 2 * group.quorum, "two disjoint sets of members cannot both reach a quorum");
  return { ...session, phase: "sharing", group, sid: group.sid };
}

/** Closes a stage with who came, where they are as many as the sum's secrecy needs. */
function ifEnough(
  session: ServerSession,
  did: string,
  { came, next }: { came: readonly string[]; next: ServerSession },
): ServerSession {
  const { least, parties } = groupOf(session);
  if (came.length >= least) return next;
  return fail(session, `${came.length} of ${parties.size} devices ${did}, at least ${least} must`);
}

function closeRevealing(session: ServerSession): ServerSession {
  const { threshold } = groupOf(session).graph;
  const short = lacking(session, threshold);
  if (short.length === 0) return { ...session, phase: "complete" };
  const counts = short.slice(0, 3).map(([sender, count]) => `${count} for ${sender}`);
  const more = short.length > 3 ? `, and ${short.length - 3} more devices` : "";
  return fail(
    session,
    `shares revealed: ${counts.join(", ")}${more}, at least ${threshold} are needed for each`,
  );
}

function fail(session: ServerSession, why: string): ServerSession {
  return { ...session, phase: "failed", reason: `below threshold: ${why}` };
}
