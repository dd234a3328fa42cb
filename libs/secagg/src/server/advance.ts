import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { formGroup } from "../group.ts";
import { MIN_MEMBERS } from "../threshold.ts";
import { lacking } from "./revealed.ts";
import { groupOf, type ServerSession } from "./state.ts";

/**
 * Closes the stage in progress with who came; who did not is out, and that costs only itself while t remain.
 * Fewer than t fail the session, with a reason, and nothing is revealed.
 * @throws Fault("conflict") when the session is over.
 */
export function advance(session: ServerSession): ServerSession {
  switch (session.phase) {
    case "advertising":
      return fixRoster(session);
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
      return ifEnough(session, "attested", {
        came: signers,
        next: { ...session, phase: "revealing", signers },
      });
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

/** U1, and with it sid and t. */
function fixRoster(session: ServerSession): ServerSession {
  const { advertised, terms } = session;
  if (advertised.size < MIN_MEMBERS)
    return fail(session, `${advertised.size} of at least ${MIN_MEMBERS} devices advertised keys`);
  const group = formGroup(terms, advertised.values());
  assert(advertised.size < 2 * group.threshold, "two disjoint sets of members cannot both reach t");
  return { ...session, phase: "sharing", group, sid: group.sid };
}

function ifEnough(
  session: ServerSession,
  did: string,
  { came, next }: { came: readonly string[]; next: ServerSession },
): ServerSession {
  const { threshold, parties } = groupOf(session);
  if (came.length >= threshold) return next;
  return fail(session, `${came.length} of ${parties.size} devices ${did}, at least ${threshold} must`);
}

function closeRevealing(session: ServerSession): ServerSession {
  const { threshold } = groupOf(session);
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
