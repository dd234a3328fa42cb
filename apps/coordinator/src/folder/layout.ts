import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { base64, fromBase64, fromHex, hex } from "@tutti/foundation/bytes";
import { checkBytes } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type SigningKey, signingKey } from "@tutti/identity/keys";
import { type Certificate, CertificateSchema } from "@tutti/wire/device";
import { decode, encode } from "@tutti/wire/message";
import { type Config, parseConfig } from "./config.ts";

/** Where each thing lies in a federation folder. The authority's part may be kept on another machine. */
export const PATHS = {
  config: "tutti.json",
  authorityKey: join("authority", "authority.key"),
  /** Devices whose certificates were renewed with the authority's key. */
  renewed: join("authority", "renewed.json"),
  authorityPublic: join("authority", "authority.pub"),
  ownerKey: join("owner", "owner.key"),
  /** Who was revoked, as the owner signed it last. */
  revocations: join("owner", "revocations.json"),
  ownerCertificate: join("owner", "owner.cert"),
  coordinatorKey: join("coordinator", "coordinator.key"),
  coordinatorCertificate: join("coordinator", "coordinator.cert"),
  tlsKey: join("coordinator", "tls.key"),
  tlsCertificate: join("coordinator", "tls.pem"),
  /** TLS certificates of other coordinators of the federation, where they have their own; may be absent. */
  peerCertificates: join("coordinator", "peers.pem"),
  store: join("coordinator", "tutti.sqlite"),
  artifacts: join("coordinator", "artifacts"),
} as const;

/** What a coordinator cannot serve without, beside its database and artifacts. */
export const COORDINATOR_FILES = [
  PATHS.config,
  PATHS.authorityPublic,
  PATHS.ownerCertificate,
  PATHS.coordinatorKey,
  PATHS.coordinatorCertificate,
  PATHS.tlsKey,
  PATHS.tlsCertificate,
] as const;

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const MAX_CERTIFICATE_BYTES = 16 << 10;

/** A key file holds its 32-byte seed in hex, a certificate file its message in base64: one line each. */
export function seedText(seed: Uint8Array): string {
  return `${hex(seed)}\n`;
}

export function publicText(publicKey: Uint8Array): string {
  return `${hex(publicKey)}\n`;
}

export function certificateText(certificate: Certificate): string {
  return `${base64(encode(CertificateSchema, certificate))}\n`;
}

/** Where artifacts are files, which they are unless the config names a bucket. */
export function artifactsFolder(folder: string, { artifacts }: Pick<Config, "artifacts">): string {
  const path = artifacts.folder ?? PATHS.artifacts;
  return isAbsolute(path) ? path : join(folder, path);
}

export async function readConfig(folder: string): Promise<Config> {
  return parseConfig(await readText(folder, PATHS.config), join(folder, PATHS.config));
}

export async function readKey(folder: string, path: string): Promise<SigningKey> {
  return signingKey(await readHex(folder, path));
}

export async function readHex(folder: string, path: string): Promise<Uint8Array> {
  const text = (await readText(folder, path)).trim();
  try {
    return checkBytes(path, fromHex(text, path), 32, "bad-input");
  } catch {
    // Neither the text nor its length is told: it may be a key.
    throw new Fault("bad-input", join(folder, path), { expected: "32 bytes in hex", got: "other text" });
  }
}

export async function readCertificate(folder: string, path: string): Promise<Certificate> {
  const text = (await readText(folder, path)).trim();
  return decode(CertificateSchema, fromBase64(text, path), MAX_CERTIFICATE_BYTES);
}

/** Each PEM certificate of `peers.pem` beside our own; none where there is no such file. */
export async function readPeers(folder: string): Promise<string[]> {
  const text = await readText(folder, PATHS.peerCertificates).catch((fault: Fault) => {
    if (fault.code === "not-found") return "";
    throw fault;
  });
  if (text.trim() === "") return [];
  const wrong = (expected: string, got: string) =>
    new Fault("bad-input", join(folder, PATHS.peerCertificates), { expected, got });
  const own = new X509Certificate(await readText(folder, PATHS.tlsCertificate));
  let found: X509Certificate[];
  try {
    found = (text.match(CERTIFICATE) ?? [text]).map((one) => new X509Certificate(one));
  } catch {
    throw wrong("PEM certificates", "other text");
  }
  const others = found.filter(({ raw }) => !raw.equals(own.raw));
  // A device could not tell them apart (tls.ts).
  const subjects = new Set([own, ...others].map(({ subject }) => subject));
  if (subjects.size <= others.length)
    throw wrong("certificates with a subject of their own each", "a subject twice");
  return others.map(String);
}

const FROM_OTHERS = "copy it from another coordinator of the federation, or from a backup";
const RENEW_TLS = "on the coordinator's machine make both anew with `tutti tls renew`";
/** What each file is for, and where it comes from; without tutti.json alone there is no federation. */
const MISSING: Readonly<Record<string, string>> = {
  [PATHS.config]: "Make a federation with `tutti init`, or name its folder",
  [PATHS.authorityKey]:
    "The authority's key, which enrols devices, is kept offline: run this on the machine where it is",
  [PATHS.authorityPublic]:
    "The authority's public key, which every machine needs: copy it from where authority.key is",
  [PATHS.ownerKey]:
    "The key of the run's owner is in no backup and on no coordinator: run this where it is, or copy it here",
  [PATHS.ownerCertificate]: `The run owner's certificate: ${FROM_OTHERS}`,
  [PATHS.coordinatorKey]: `The coordinator's key: ${FROM_OTHERS}`,
  [PATHS.coordinatorCertificate]: `The coordinator's certificate: ${FROM_OTHERS}`,
  [PATHS.tlsKey]: `The key of the coordinator's port: ${RENEW_TLS}`,
  [PATHS.tlsCertificate]: `The certificate of the coordinator's port: copy it from there; ${RENEW_TLS}`,
};

/** What to say where a file is not there. */
export function missingFile(folder: string, path: string, cause?: unknown): Fault {
  const todo = MISSING[path] ?? "tutti.json names it: put it there, or correct the name";
  return new Fault("not-found", join(folder, path), { expected: "this file", got: "none", todo, cause });
}

/** What to say of a file that is there. */
export function unreadable(file: string, code: string | undefined, cause?: unknown): Fault {
  if (code !== "EACCES" && code !== "EPERM")
    return new Fault("storage", file, { got: code ?? "an error", cause });
  const todo = "Run this as the user that owns the folder";
  return new Fault("refused", file, { expected: "a file that this user may read", got: code, todo, cause });
}

export async function readText(folder: string, path: string): Promise<string> {
  const file = join(folder, path);
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") throw missingFile(folder, path, cause);
    throw unreadable(file, code, cause);
  }
}
