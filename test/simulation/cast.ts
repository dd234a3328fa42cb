import { nativeSigningKey } from "@tutti/client-sdk/node/sign";
import type { DeviceIdentity } from "@tutti/client-sdk/site";
import { nativeAgree, nativeVerify, rememberingVerify } from "@tutti/coordinator/native";
import { utf8 } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import { type SecretRandom, seededSecret } from "@tutti/foundation/random";
import { bind, issue, type Role } from "@tutti/identity/certificate";
import type { SigningKey } from "@tutti/identity/keys";
import type { Certificate } from "@tutti/wire/device";
import { WALL_START_MS } from "./life.ts";

/** Pure functions, and the same few hundred questions in every seed. */
export const verify = rememberingVerify(nativeVerify);
export const agree = nativeAgree;

const NOT_BEFORE_S = WALL_START_MS / 1000 - 86_400;
const LONG_S = 90 * 86_400;
/** Past it when a clock is set forward by an hour, and not before. */
const SHORT_S = 86_400 + 1_800;

export type Party = {
  readonly name: string;
  readonly key: SigningKey;
  readonly certificate: Certificate;
};

/** The names that a simulation may have; certificates are by turns long and short. */
export const NAMES = ["ann", "bob", "cem", "dee", "eve", "fay", "gus", "hal", "ida"] as const;

/** Secrets that follow from a seed: of a simulation, never of a federation. */
export function secretOf(...seed: (string | number)[]): SecretRandom {
  return seededSecret(sha256(utf8(seed.join("/"))), utf8("tutti/simulation"));
}

function keyOf(name: string): SigningKey {
  return nativeSigningKey(secretOf("a key", name).bytes(32));
}

const authority = keyOf("authority");
export const AUTHORITY = authority.publicKey;

function statement(role: Role, name: string, lifeS = LONG_S) {
  const serial = secretOf("a serial", name, lifeS).bytes(16);
  return { role, name, notBeforeS: NOT_BEFORE_S, notAfterS: NOT_BEFORE_S + lifeS, serial };
}

function party(role: Role, name: string): Party {
  const key = keyOf(name);
  return { name, key, certificate: issue(authority, { ...statement(role, name), publicKey: key.publicKey }) };
}

export const COORDINATOR = party("coordinator", "coordinator");
export const OWNER = party("owner", "owner");

/** A device as it joined; `short`: its certificate ends half an hour after a simulation begins. */
export function identityOf(name: string, { short = false } = {}): DeviceIdentity {
  const known = identities.get(`${name}${short}`) ?? join(name, short ? SHORT_S : LONG_S);
  identities.set(`${name}${short}`, known);
  return known;
}

const identities = new Map<string, DeviceIdentity>();

function join(name: string, lifeS: number): DeviceIdentity {
  const [token, key] = [keyOf(`token of ${name}`), keyOf(name)];
  const grant = issue(authority, { ...statement("device", name, lifeS), publicKey: token.publicKey });
  const certificate = bind(grant, token, key.publicKey);
  return { federation: "simulation", name, key, certificate, authority: AUTHORITY };
}
