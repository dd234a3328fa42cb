import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { verify as portableVerify } from "@tutti/identity/keys";
import type { Picks } from "@tutti/wire/secagg";
import { neighboursOf } from "../graph.ts";
import { type Group, leastOf, sparseGroup } from "../group.ts";
import { isAmong } from "../picks.ts";
import { pickStatement } from "../statement.ts";
import { MIN_MEMBERS } from "../threshold.ts";
import { atLeast } from "./roster.ts";
import type { Picked } from "./state.ts";

/**
 * U1 of a sparse graph: members of this device's roster, each once and by place, itself as it picked, enough
 * of them for its floor and for the graph. Whom it holds shares for, or has a mask with, must have signed its
 * picks; the others' stand in H(U1), for which their own attestations vouch.
 */
export function checkPicks({ member, crew, picked }: Picked, { roster, picks }: Picks): Group {
  const refuse = (expected: string, got: string) => () => new Fault("refused", "picks", { expected, got });
  demand(equalBytes(roster, crew.root), refuse("picks from this device's roster", "another"));
  const names = [...crew.parties.keys()];
  const ascending = picks.every(({ member: at }, i) => i === 0 || picks[i - 1]!.member < at);
  demand(ascending, refuse("each member once, ascending", "another order"));
  demand(
    picks.every(({ member: at }) => at < names.length),
    refuse("members of the roster", "another"),
  );
  atLeast("members", Math.max(member.floor.devices, MIN_MEMBERS, leastOf(crew)), picks.length);
  const own = picks.find(({ member: at }) => names[at] === member.name);
  const same = own && equalBytes(own.holders, picked.holders) && equalBytes(own.signature, picked.signature);
  demand(same, refuse("this device's own picks", own ? "others" : "none"));
  const group = sparseGroup(crew, picks);
  checkPickers({ member, crew }, { group, picks, names });
  return group;
}

/**
 * The signatures of all who picked this device, or whom it picked; also of a pick that was let go as surplus,
 * since a forged one could have pushed an honest one out.
 */
function checkPickers(
  { member, crew }: Pick<Picked, "member" | "crew">,
  { group, picks, names }: { group: Group; picks: Picks["picks"]; names: readonly string[] },
): void {
  const { verify = portableVerify } = member;
  const near = new Set(neighboursOf(group.graph, member.name));
  const ownPlace = names.indexOf(member.name);
  for (const { member: at, holders, signature } of picks) {
    const name = names[at]!;
    const concerns = near.has(name) || isAmong(holders, ownPlace);
    if (!concerns || name === member.name) continue;
    const statement = pickStatement(crew.terms, { root: crew.root, holders });
    demand(
      verify(crew.parties.get(name)!.publicKey, statement, signature),
      () => new Fault("refused", `picks of ${name}`, { expected: "its signature", got: "another" }),
    );
  }
}
