import { mkdir, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { SecretRandom } from "@tutti/foundation/random";
import { issue, type Role } from "@tutti/identity/certificate";
import { newSeed, type SigningKey, signingKey } from "@tutti/identity/keys";
import { configText } from "./config.ts";
import { makeFolder, publish, storageFault, syncFolder, writeSynced } from "./files.ts";
import { certificateText, PATHS, publicText, seedText } from "./layout.ts";
import { newTls, TLS_DAYS } from "./tls.ts";

export type InitOptions = {
  readonly folder: string;
  readonly name: string;
  /** What devices dial. */
  readonly host: string;
  readonly port: number;
  readonly random: SecretRandom;
  /** The wall clock. */
  readonly nowMs: number;
};

const SECRET = 0o600;
const LOOPBACK = new Set(["localhost", "127.0.0.1", "::1"]);
const DAY_S = 86_400;
/** A device's clock may run behind ours. */
const SKEW_S = 3_600;

/**
 * Makes a federation: authority, one owner, one coordinator with its TLS certificate. Written beside its
 * place and then renamed, so it is there whole or not at all. @throws Fault("conflict") where something is
 * there already.
 */
export async function initFederation(options: InitOptions): Promise<void> {
  const folder = resolve(options.folder);
  if (await exists(folder))
    throw new Fault("conflict", folder, {
      expected: "a new folder",
      got: "one that exists",
      todo: "Name another",
    });
  const files = await filesOf(options);
  const part = `${folder}.${hex(options.random.bytes(6))}.part`;
  try {
    await makeFolder(dirname(folder));
    await mkdir(part, { mode: 0o700 });
    for (const [path, { text, mode }] of files) {
      await makeFolder(dirname(join(part, path)), 0o700);
      await writeSynced(join(part, path), text, mode);
    }
    await mkdir(join(part, PATHS.artifacts));
    for (const inner of ["authority", "owner", "coordinator", "."]) await syncFolder(join(part, inner));
    await publish(part, folder);
  } catch (cause) {
    // Where its parent is no folder this fails too, and the first error says more.
    await rm(part, { recursive: true, force: true }).catch(() => {});
    throw storageFault(folder, cause);
  }
}

type Content = { readonly text: string; readonly mode: number };

async function filesOf({ name, host, port, random, nowMs }: InitOptions): Promise<Map<string, Content>> {
  // A host that only this machine can dial must not open the port to others.
  const listen = { host: LOOPBACK.has(host) ? host : "0.0.0.0", port };
  const seeds = { authority: newSeed(random), owner: newSeed(random), coordinator: newSeed(random) };
  const authority = signingKey(seeds.authority);
  const certify = (role: "owner" | "coordinator") =>
    certificateText(grant(authority, { role, key: signingKey(seeds[role]), random, nowMs }));
  const tls = await newTls({ name, host, nowMs });
  const open = (text: string): Content => ({ text, mode: 0o644 });
  const secret = (text: string): Content => ({ text, mode: SECRET });
  return new Map([
    [PATHS.config, open(configText({ version: 1, name, host, port, listen }))],
    [PATHS.authorityKey, secret(seedText(seeds.authority))],
    [PATHS.authorityPublic, open(publicText(authority.publicKey))],
    [PATHS.ownerKey, secret(seedText(seeds.owner))],
    [PATHS.ownerCertificate, open(certify("owner"))],
    [PATHS.coordinatorKey, secret(seedText(seeds.coordinator))],
    [PATHS.coordinatorCertificate, open(certify("coordinator"))],
    [PATHS.tlsKey, secret(tls.key)],
    [PATHS.tlsCertificate, open(tls.certificate)],
  ]);
}

/** The authority's certificate for the owner or the coordinator; good for as long as TLS's is. */
function grant(
  authority: SigningKey,
  about: { role: Role; key: SigningKey; random: SecretRandom; nowMs: number },
) {
  const nowS = Math.floor(about.nowMs / 1000);
  return issue(authority, {
    role: about.role,
    name: about.role,
    publicKey: about.key.publicKey,
    notBeforeS: nowS - SKEW_S,
    notAfterS: nowS + TLS_DAYS * DAY_S,
    serial: about.random.bytes(16),
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw storageFault(path, cause);
  }
}
