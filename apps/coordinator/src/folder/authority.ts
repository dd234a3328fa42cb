import { join } from "node:path";
import { hex } from "@tutti/foundation/bytes";
import { asFault, Fault } from "@tutti/foundation/fault";
import type { SecretRandom } from "@tutti/foundation/random";
import { issue, validityOf, verifyCertificate } from "@tutti/identity/certificate";
import type { SigningKey } from "@tutti/identity/keys";
import { isDue } from "@tutti/identity/renewal";
import { envelopeFromJson, envelopeJson } from "@tutti/release/dsse";
import { checkGrown, NO_REVOCATIONS, readRevocations } from "@tutti/release/revocations";
import type { SignedEnvelope } from "@tutti/wire/release";
import type { RevocationList } from "@tutti/wire/standing";
import { publish, writeSynced } from "./files.ts";
import { certificateText, PATHS, readCertificate, readText } from "./layout.ts";
import type { Known } from "./renewals.ts";
import { TLS_DAYS } from "./tls.ts";

const DAY_S = 86_400;
/** A device's clock may run behind ours. */
const SKEW_S = 3_600;

/** Replaces a file of the folder as a whole. */
async function replace(folder: string, path: string, text: string, random: SecretRandom): Promise<void> {
  const part = join(folder, `${path}.${hex(random.bytes(6))}.part`);
  try {
    await writeSynced(part, text);
    await publish(part, join(folder, path));
  } catch (cause) {
    throw new Fault("storage", join(folder, path), { got: asFault(cause).message, cause });
  }
}

async function readIfThere(folder: string, path: string): Promise<string | null> {
  return await readText(folder, path).catch((fault: Fault) => {
    if (fault.code === "not-found") return null;
    throw fault;
  });
}

/** The newest list of who was revoked that this folder's owner knows of. */
export async function readRevoked(folder: string): Promise<RevocationList> {
  const text = await readIfThere(folder, PATHS.revocations);
  return text === null ? NO_REVOCATIONS : readRevocations(envelopeFromJson(text).payload);
}

/** Keeps a list, unless a newer one is there. @throws Fault("refused") where it lacks somebody. */
export async function keepRevoked(
  folder: string,
  { envelope, random }: { envelope: SignedEnvelope; random: SecretRandom },
): Promise<RevocationList> {
  const before = await readRevoked(folder);
  const list = readRevocations(envelope.payload);
  if (list.version <= before.version) return before;
  checkGrown(before, list);
  await replace(folder, PATHS.revocations, envelopeJson(envelope), random);
  return list;
}

/** What was renewed with this authority's key. */
export async function readKnown(folder: string): Promise<Known[]> {
  const text = await readIfThere(folder, PATHS.renewed);
  if (text === null) return [];
  try {
    return (JSON.parse(text) as { devices: Known[] }).devices.map((one) => {
      const { name, key, site, notAfterS } = one;
      if (typeof name !== "string" || typeof key !== "string")
        throw new Error("a device without name or key");
      if (typeof site !== "string" || !Number.isInteger(notAfterS)) throw new Error(`${name}: no end`);
      return { name, key, site, notAfterS };
    });
  } catch (cause) {
    const todo = "Restore it: without it a second key bound to a site's name would not be noticed";
    throw new Fault("bad-input", join(folder, PATHS.renewed), { expected: "a list of devices", todo, cause });
  }
}

export async function writeKnown(
  folder: string,
  { known, random }: { known: readonly Known[]; random: SecretRandom },
): Promise<void> {
  await replace(folder, PATHS.renewed, `${JSON.stringify({ devices: known }, null, 2)}\n`, random);
}

/**
 * Certificates of the federation's own roles that are two thirds through are made anew, for the same keys.
 * They count from the next start of whoever has them. Which were renewed.
 */
export async function renewRoles(
  folder: string,
  { authority, random, nowMs }: { authority: SigningKey; random: SecretRandom; nowMs: number },
): Promise<("coordinator" | "owner")[]> {
  const renewed: ("coordinator" | "owner")[] = [];
  const nowS = Math.floor(nowMs / 1000);
  for (const [role, path] of [
    ["coordinator", PATHS.coordinatorCertificate],
    ["owner", PATHS.ownerCertificate],
  ] as const) {
    // The authority may be on a machine where the coordinator's is not.
    if ((await readIfThere(folder, path)) === null) continue;
    const certificate = await readCertificate(folder, path);
    if (!isDue(certificate, nowS)) continue;
    const asOfS = Math.min(nowS, validityOf(certificate).notAfterS);
    const { name, publicKey } = verifyCertificate(certificate, {
      authority: authority.publicKey,
      role,
      nowS: asOfS,
    });
    const within = { notBeforeS: nowS - SKEW_S, notAfterS: nowS + TLS_DAYS * DAY_S };
    const next = issue(authority, { role, name, publicKey, serial: random.bytes(16), ...within });
    await replace(folder, path, certificateText(next), random);
    renewed.push(role);
  }
  return renewed;
}
