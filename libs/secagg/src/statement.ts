import { canonical } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import type { Advertisement, Pick as Picked, Terms } from "@tutti/wire/secagg";

// Every byte string that is signed or hashed, in one place. All are `canonical`: a domain, then fields with
// their lengths, so that no statement reads as another one.

/**
 * What a device signs in stage 0 (Bonawitz et al. 2017, Fig. 4, round 0): its two keys, for this attempt
 * only.
 */
export function advertiseStatement(
  { run, round, attempt }: Pick<Terms, "run" | "round" | "attempt">,
  keys: Pick<Advertisement, "envelopeKey" | "maskKey">,
): Uint8Array {
  return canonical("tutti/advertise/v1", run, round, attempt, keys.envelopeKey, keys.maskKey);
}

/** H(U1): certificates, keys and signatures of the sorted roster. */
export function rosterRoot(members: readonly Advertisement[]): Uint8Array {
  const fields = members.flatMap(({ certificate, envelopeKey, maskKey, signature }) => {
    const { body, signature: issued, subjectKey, binding } = certificate ?? NO_CERTIFICATE;
    return [body, issued, subjectKey, binding, envelopeKey, maskKey, signature];
  });
  return sha256(canonical("tutti/roster/v1", ...fields));
}

/** What a device signs between stages 0 and 1: its holders, by place in the roster that `root` names. */
export function pickStatement(
  { run, round, attempt }: Pick<Terms, "run" | "round" | "attempt">,
  { root, holders }: { root: Uint8Array; holders: Uint8Array },
): Uint8Array {
  return canonical("tutti/pick/v1", run, round, attempt, root, holders);
}

/** H(U1) of a sparse graph: the roster, and whom each member that stays in it picked. */
export function graphRoot(root: Uint8Array, picks: readonly Picked[]): Uint8Array {
  const fields = picks.flatMap(({ member, holders, signature }) => [member, holders, signature]);
  return sha256(canonical("tutti/graph/v1", root, ...fields));
}

const NONE = new Uint8Array(0);
const NO_CERTIFICATE = { body: NONE, signature: NONE, subjectKey: NONE, binding: NONE };

/**
 * sid (docs/protocol.md, Session id). Model and task are inside, so that masks of devices that were given
 * different ones do not cancel. On the full graph k, the holders of one device's shares, is n.
 */
export function sessionId(
  terms: Terms,
  at: { root: Uint8Array; n: number; threshold: number; degree: number },
): Uint8Array {
  const { run, round, attempt, modelHash, taskHash, bits, length } = terms;
  const sizes = [at.n, at.threshold, at.degree, bits, length];
  return sha256(canonical("tutti/secagg/v1", run, round, attempt, at.root, modelHash, taskHash, ...sizes));
}

/** H(U2) and H(U3) of sorted names. */
export function namesHash(set: "U2" | "U3", names: readonly string[]): Uint8Array {
  return sha256(canonical(`tutti/${set}/v1`, ...names));
}

/** What a device signs in stage 3 (Fig. 4, round 3): the three sets as it saw them. */
export function attestStatement(
  sid: Uint8Array,
  sets: { root: Uint8Array; senders: readonly string[]; survivors: readonly string[] },
): Uint8Array {
  return canonical(
    "tutti/attest/v1",
    sid,
    sets.root,
    namesHash("U2", sets.senders),
    namesHash("U3", sets.survivors),
  );
}

/** H("b", sid, u, b_u): holds u to its seed before anyone asks for it, so that a bad share has a culprit. */
export function seedCommitment(sid: Uint8Array, name: string, seed: Uint8Array): Uint8Array {
  return sha256(canonical("b", sid, name, seed));
}
