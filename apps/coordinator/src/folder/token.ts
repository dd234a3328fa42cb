import { checkInteger } from "@tutti/foundation/check";
import type { SecretRandom } from "@tutti/foundation/random";
import { issue } from "@tutti/identity/certificate";
import type { JoinFile } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { addressOf } from "./config.ts";
import { openAuthority, ownersOf } from "./federation.ts";
import { PATHS, readConfig, readPeers, readText } from "./layout.ts";

export type TokenOptions = {
  readonly folder: string;
  /** The device's name, unique in the federation. */
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Where it is, and how many of there may be enrolled, and in one sum. */
  readonly site?: string;
  readonly siteLimit?: number;
  /** How long the device's certificate will be valid. */
  readonly days: number;
  /** How long the token can be used: 30 days unless told, and no longer than the certificate. */
  readonly tokenDays?: number;
  readonly random: SecretRandom;
  /** The wall clock. */
  readonly nowMs: number;
};

const DAY_S = 86_400;
/** A device's clock may run behind ours. */
const SKEW_S = 3_600;
const MAX_DAYS = 3650;
/** A join file that nobody used lies in somebody's mail. */
export const TOKEN_DAYS = 30;

/**
 * A join file for one device: the authority's grant on a fresh token key. Nothing about it is stored here;
 * the coordinator knows the token as used when the first key bound to its serial enrols.
 */
export async function createToken(options: TokenOptions): Promise<JoinFile> {
  const { folder, name, labels, site, siteLimit, days, random, nowMs } = options;
  const { tokenDays = Math.min(days, TOKEN_DAYS) } = options;
  checkInteger("days", days, [1, MAX_DAYS]);
  checkInteger("days of the token", tokenDays, [1, days]);
  const config = await readConfig(folder);
  const authority = await openAuthority(folder);
  const others = await readPeers(folder);
  const secret = newSeed(random);
  const nowS = Math.floor(nowMs / 1000);
  const grant = issue(authority, {
    role: "device",
    name,
    publicKey: signingKey(secret).publicKey,
    notBeforeS: nowS - SKEW_S,
    notAfterS: nowS + days * DAY_S,
    serial: random.bytes(16),
    enrolBeforeS: nowS + tokenDays * DAY_S,
    ...(labels && { labels }),
    ...(site && { site, siteLimit: siteLimit ?? 0 }),
  });
  return {
    version: 1,
    federation: config.name,
    address: addressOf(config),
    ...(config.addresses.length > 0 ? { addresses: config.addresses } : {}),
    tls: {
      certificate: await readText(folder, PATHS.tlsCertificate),
      ...(others.length > 0 ? { others } : {}),
    },
    authority: authority.publicKey,
    token: { grant, secret },
    owners: await ownersOf(folder, authority.publicKey, nowMs),
  };
}
