import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { type Identity, type Role, verifyCertificate } from "@tutti/identity/certificate";
import type { SigningKey } from "@tutti/identity/keys";
import type { Certificate } from "@tutti/wire/device";
import { addressOf, type Config } from "./config.ts";
import { PATHS, readCertificate, readConfig, readHex, readKey, readPeers, readText } from "./layout.ts";
import type { Tls } from "./tls.ts";
import { readTls } from "./tls-files.ts";

/** What the coordinator needs of a federation folder; the authority's and owner's keys are not among it. */
export type Federation = {
  readonly folder: string;
  readonly config: Config;
  /** The authority's public key. */
  readonly authority: Uint8Array;
  readonly owners: readonly { readonly name: string; readonly publicKey: Uint8Array }[];
  readonly coordinator: { readonly key: SigningKey; readonly certificate: Certificate };
  readonly tls: Tls;
};

/** A run's owner at his own machine: signs plans and talks to the coordinator. */
export type Owner = {
  readonly name: string;
  readonly key: SigningKey;
  readonly certificate: Certificate;
  /** The authority's public key. */
  readonly authority: Uint8Array;
  /** "host:port" of the coordinator. */
  readonly address: string;
  /** Of the federation's further coordinators. */
  readonly addresses: readonly string[];
  /** PEM of the coordinators' TLS certificates. */
  readonly tls: string;
};

/**
 * Opens a federation folder for its coordinator. @throws Fault naming the file or certificate that is wrong.
 */
export async function openFederation(folder: string, nowMs = Date.now()): Promise<Federation> {
  const config = await readConfig(folder);
  const authority = await readHex(folder, PATHS.authorityPublic);
  const key = await readKey(folder, PATHS.coordinatorKey);
  const certificate = await readCertificate(folder, PATHS.coordinatorCertificate);
  checkPair(identify(certificate, { authority, role: "coordinator", nowMs }), key);
  const owners = await ownersOf(folder, authority, nowMs);
  return {
    folder,
    config,
    authority,
    owners,
    coordinator: { key, certificate },
    tls: await readTls(folder),
  };
}

/** Opens a federation folder for its run owner. */
export async function openOwner(folder: string, nowMs = Date.now()): Promise<Owner> {
  const config = await readConfig(folder);
  const authority = await readHex(folder, PATHS.authorityPublic);
  const key = await readKey(folder, PATHS.ownerKey);
  const certificate = await readCertificate(folder, PATHS.ownerCertificate);
  const identity = identify(certificate, { authority, role: "owner", nowMs });
  checkPair(identity, key);
  const tls = [await readText(folder, PATHS.tlsCertificate), ...(await readPeers(folder))].join("\n");
  const { addresses } = config;
  return { name: identity.name, key, certificate, authority, address: addressOf(config), addresses, tls };
}

/** Who may start runs: today the one owner that `init` made. */
export async function ownersOf(
  folder: string,
  authority: Uint8Array,
  nowMs: number,
): Promise<Federation["owners"]> {
  const certificate = await readCertificate(folder, PATHS.ownerCertificate);
  const { name, publicKey } = identify(certificate, { authority, role: "owner", nowMs });
  return [{ name, publicKey }];
}

/** The authority's own key, for tokens; nothing that serves devices calls this. */
export async function openAuthority(folder: string): Promise<SigningKey> {
  const key = await readKey(folder, PATHS.authorityKey);
  const known = await readHex(folder, PATHS.authorityPublic);
  if (!equalBytes(key.publicKey, known))
    throw new Fault("refused", "authority.key", { expected: "the key of authority.pub", got: "another" });
  return key;
}

function identify(
  certificate: Certificate,
  { authority, role, nowMs }: { authority: Uint8Array; role: Role; nowMs: number },
): Identity {
  return verifyCertificate(certificate, { authority, role, nowS: Math.floor(nowMs / 1000) });
}

function checkPair(identity: Identity, key: SigningKey): void {
  if (equalBytes(identity.publicKey, key.publicKey)) return;
  throw new Fault("refused", `${identity.role} certificate`, {
    expected: `the key of ${identity.role}.key`,
    got: "another",
  });
}
