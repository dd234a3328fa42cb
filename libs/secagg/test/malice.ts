import { create } from "@tutti/wire/message";
import {
  type Advertisement,
  AdvertisementSchema,
  AttestationSchema,
  type Attestations,
  AttestationsSchema,
  type Roster,
  type Survivors,
  SurvivorsSchema,
  type Terms,
} from "@tutti/wire/secagg";
import { advertise } from "../src/device/advertise.ts";
import { attest } from "../src/device/attest.ts";
import type { Member } from "../src/device/member.ts";
import { share } from "../src/device/share.ts";
import { advertiseStatement } from "../src/statement.ts";
import { names, type Play, terms, upTo, wordAs } from "./federation.ts";

export const ALL = names(5);

/** The honest roster with something changed. */
export async function rosterWith(
  change: (roster: Roster) => void,
  n = 5,
): Promise<{ play: Play; roster: Roster }> {
  const play = await upTo("share", n);
  const roster = structuredClone(wordAs(play, "d00", "roster"));
  change(roster);
  return { play, roster };
}

export const refusal = async (change: (roster: Roster) => void, n = 5) => {
  const { play, roster } = await rosterWith(change, n);
  return share(play.states.get("d00")!, roster).then(
    () => "accepted",
    (error: Error) => error.message,
  );
};

/** An advertisement as `member` would make it, with chosen keys. */
export function signedBy(
  member: Member,
  keys: Partial<Advertisement> = {},
  given: Terms = terms(),
): Advertisement {
  const fresh = advertise(given, member).message;
  const { envelopeKey, maskKey } = { ...fresh, ...keys };
  const signature = member.key.sign(advertiseStatement(given, { envelopeKey, maskKey }));
  return create(AdvertisementSchema, { certificate: member.certificate, envelopeKey, maskKey, signature });
}

export function survivorsOf(play: Play, devices: readonly string[]): Survivors {
  return create(SurvivorsSchema, { session: play.session.sid!, devices: [...devices] });
}

export function attestationsOf(play: Play, signed: readonly (readonly [string, Uint8Array])[]): Attestations {
  const list = signed.map(([device, signature]) => create(AttestationSchema, { device, signature }));
  return create(AttestationsSchema, { session: play.session.sid!, signed: list });
}

/** These devices sign for these survivors, whatever the coordinator's own session says. */
export function attestAll(
  play: Play,
  devices: readonly string[],
  survivors: readonly string[],
): [string, Uint8Array][] {
  return devices.map((device) => {
    const { state, message } = attest(play.states.get(device)!, survivorsOf(play, survivors));
    play.states.set(device, state);
    return [device, message.signature];
  });
}
