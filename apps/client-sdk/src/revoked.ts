import { demand } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import { checkSites } from "@tutti/identity/sites";
import { envelopeFromJson } from "@tutti/release/dsse";
import { NO_REVOCATIONS, REVOCATIONS, readRevocations, revokedAmong } from "@tutti/release/revocations";
import { CertificateBodySchema } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import type { Roster } from "@tutti/wire/secagg";
import type { RevocationList } from "@tutti/wire/standing";
import type { Store } from "./store.ts";

/** The document with the newest list that this device took, as its owner signed it. */
export const REVOKED = "revocations";
const MAX_BODY_BYTES = 4096;

/**
 * The list that this device keeps. It was checked when it came; its owner's certificate may have ended since.
 * @throws Fault("storage") for a damaged one: taken for empty, it would let everybody in again.
 */
export async function keptRevocations(store: Pick<Store, "document">): Promise<RevocationList> {
  const text = await store.document(REVOKED);
  if (text === null) return NO_REVOCATIONS;
  try {
    const { payloadType, payload } = envelopeFromJson(text);
    demand(payloadType === REVOCATIONS, () => new Fault("storage", REVOKED, { got: payloadType }));
    return readRevocations(payload);
  } catch (cause) {
    throw new Fault("storage", `documents/${REVOKED}.json`, {
      expected: "a list",
      got: asFault(cause).message,
      cause,
    });
  }
}

/**
 * What a coordinator could get wrong in a roster whose certificates are all good: a member that was revoked,
 * and more members of one site than the authority allows. @throws Fault("refused") naming it.
 */
export async function admitMembers(store: Pick<Store, "document">, roster: Roster): Promise<void> {
  const members = roster.members.map(({ certificate }) =>
    decode(CertificateBodySchema, certificate?.body ?? new Uint8Array(), MAX_BODY_BYTES),
  );
  const list = await keptRevocations(store);
  const revoked = revokedAmong(members, list);
  demand(
    revoked === undefined,
    () =>
      new Fault("refused", `peer ${revoked?.name}`, {
        expected: "members of the federation",
        got: `one that list ${list.version} revokes`,
      }),
  );
  checkSites(members);
}
