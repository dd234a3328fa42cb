import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Federation,
  openAuthority,
  openFederation,
  openOwner,
} from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { platformRandom } from "@tutti/foundation/random";
import { bind, issue, type Statement } from "@tutti/identity/certificate";
import type { JoinFile } from "@tutti/identity/join";
import { newSeed, type SigningKey, signingKey } from "@tutti/identity/keys";
import type { Certificate } from "@tutti/wire/device";

export const random = platformRandom();

/** A name's certificate and the key it certifies. */
export type Papers = { readonly name: string; readonly key: SigningKey; readonly certificate: Certificate };

/**
 * A federation, and who holds what of it. The attacker has the coordinator's keys; the authority's and the
 * owner's are here for the honest parties.
 */
export type World = {
  readonly folder: string;
  readonly federation: Federation;
  readonly authority: SigningKey;
  readonly owner: Awaited<ReturnType<typeof openOwner>>;
};

const DAY_S = 86_400;
export const nowS = () => Math.floor(Date.now() / 1000);

export async function openWorld(): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "tutti-attack-"));
  const at = join(folder, "federation");
  await initFederation({
    folder: at,
    name: "attacks",
    host: "127.0.0.1",
    port: 1,
    random,
    nowMs: Date.now(),
  });
  return {
    folder,
    federation: await openFederation(at),
    authority: await openAuthority(at),
    owner: await openOwner(at),
  };
}

export async function closeWorld({ folder }: World): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}

/** A grant by `authority`, good for a day around now unless told. */
export function grantFor(
  name: string,
  authority: SigningKey,
  change: Partial<Statement> = {},
): { grant: Certificate; token: SigningKey; secret: Uint8Array } {
  const secret = newSeed(random);
  const token = signingKey(secret);
  const times = { notBeforeS: nowS() - 3600, notAfterS: nowS() + DAY_S };
  const about = { role: "device", name, publicKey: token.publicKey, serial: random.bytes(16) } as const;
  return { grant: issue(authority, { ...about, ...times, ...change }), token, secret };
}

/** What a device has after it joined. */
export function papersFor(
  name: string,
  authority: SigningKey,
  change: Partial<Statement> = {},
  key = signingKey(newSeed(random)),
): Papers {
  const { grant, token } = grantFor(name, authority, change);
  return { name, key, certificate: bind(grant, token, key.publicKey) };
}

export function joinFileFor(world: World, name: string, address: string): JoinFile {
  const { grant, secret } = grantFor(name, world.authority);
  const { federation } = world;
  return {
    version: 1,
    federation: federation.config.name,
    address,
    tls: { certificate: federation.tls.certificate },
    authority: federation.authority,
    token: { grant, secret },
    owners: federation.owners,
  };
}
