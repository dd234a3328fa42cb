import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { create, encode } from "@tutti/wire/message";
import { type AttestRequest, AttestRequestSchema, type Survivors, SurvivorsSchema } from "@tutti/wire/secagg";
import { checkSession, isAscending } from "../group.ts";
import { attestStatement } from "../statement.ts";
import { atLeast } from "./roster.ts";
import { type Attested, type DeviceState, type Masked, once, outOfOrder } from "./state.ts";

export type { Attested };

/**
 * Stage 3 (Fig. 4, round 3): signs H(U1), H(U2) and H(U3), once. Whoever gathers a quorum of these has shown
 * the same three sets to more than half of the honest members, so to nobody else others.
 * @throws Fault("refused") for survivors who are not U3: strangers, too few, or without this device.
 */
export function attest(
  state: DeviceState,
  survivors: Survivors,
): { state: Attested; message: AttestRequest } {
  const make = () => {
    if (state.stage !== "masked") throw outOfOrder(state, "masked");
    return sign(state, checkSurvivors(state, survivors));
  };
  return once(state, "attest", { input: { encoded: () => encode(SurvivorsSchema, survivors) }, make });
}

function sign(state: Masked, survivors: readonly string[]): { state: Attested; message: AttestRequest } {
  const { group, senders, member } = state;
  const statement = attestStatement(group.sid, { root: group.root, senders, survivors });
  const message = create(AttestRequestSchema, { session: group.sid, signature: member.key.sign(statement) });
  return { state: { ...state, stage: "attested", survivors, statement }, message };
}

function checkSurvivors({ member, group, senders }: Masked, { session, devices }: Survivors): string[] {
  const refuse = (expected: string, got: string) => () =>
    new Fault("refused", "survivors", { expected, got });
  checkSession("survivors", session, group.sid);
  demand(isAscending(devices), refuse("each name once, ascending", "another order"));
  const stranger = devices.find((name) => !senders.includes(name));
  demand(stranger === undefined, refuse("devices that shared", "one that did not"));
  demand(devices.includes(member.name), refuse("this device among them", "a set without it"));
  demand(devices.length >= group.least, refuse(`at least ${group.least}`, `${devices.length}`));
  atLeast("survivors", member.floor.survivors, devices.length);
  return [...devices];
}
