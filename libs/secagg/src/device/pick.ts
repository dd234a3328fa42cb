import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { create, encode } from "@tutti/wire/message";
import { type PickRequest, PickRequestSchema, type Roster, RosterSchema } from "@tutti/wire/secagg";
import type { Crew } from "../group.ts";
import { drawPlaces, encodePlaces } from "../picks.ts";
import { pickStatement } from "../statement.ts";
import { FULL_GRAPH } from "../threshold.ts";
import { checkRoster } from "./roster.ts";
import { type Advertised, type DeviceState, once, outOfOrder, type Picked } from "./state.ts";

export type { Picked };

/**
 * Between stages 0 and 1, for more than 100 members: checks the roster and picks k members to hold this
 * device's shares, with its own CSPRNG and after the roster is fixed, so that nobody can bias whom it picks
 * (Bell et al. 2020, section 3.2).
 * @throws Fault("refused") naming the check that the roster fails.
 */
export function pick(state: DeviceState, roster: Roster): { state: Picked; message: PickRequest } {
  const make = () => {
    if (state.stage !== "advertised") throw outOfOrder(state, "advertised");
    return pickFrom(state, checkRoster(state, roster));
  };
  return once(state, "pick", { input: { encoded: () => encode(RosterSchema, roster) }, make });
}

function pickFrom(advertised: Advertised, crew: Crew): { state: Picked; message: PickRequest } {
  const { member, terms } = advertised;
  const names = [...crew.parties.keys()];
  const n = names.length;
  demand(
    n > FULL_GRAPH,
    () =>
      new Fault("refused", "roster", {
        expected: `more than ${FULL_GRAPH} members to pick from`,
        got: `${n}`,
      }),
  );
  const places = drawPlaces(crew.size.degree, { n, own: names.indexOf(member.name) }, member.random);
  const holders = encodePlaces(places);
  const signature = member.key.sign(pickStatement(terms, { root: crew.root, holders }));
  const message = create(PickRequestSchema, { roster: crew.root, holders, signature });
  return { state: { ...advertised, stage: "picked", crew, picked: message }, message };
}
