import { createPrivateKey, X509Certificate } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { examine, expiry, type Finding, type Look } from "@tutti/foundation/finding";
import { verifyCertificate } from "@tutti/identity/certificate";
import { modeOf, tooOpen } from "../../folder/key-modes.ts";
import { PATHS, readCertificate, readHex, readKey, readText } from "../../folder/layout.ts";
import { pem } from "../../folder/tls-files.ts";

const RENEW = "Renew it before then (docs/operating.md)";

/** The coordinator's own keys and certificates; of the owner only what the coordinator needs. */
export function keyChecks(folder: string, nowMs: number): Promise<Finding>[] {
  return [
    examine("coordinator key", () => secret(folder, PATHS.coordinatorKey)),
    examine("coordinator certificate", () => certificate(folder, "coordinator", nowMs)),
    examine("owner certificate", () => certificate(folder, "owner", nowMs)),
    examine("TLS key", () => secret(folder, PATHS.tlsKey)),
    examine("TLS certificate", () => tls(folder, nowMs)),
    examine("authority key", () => authority(folder)),
  ];
}

async function secret(folder: string, path: string): Promise<Look> {
  await readText(folder, path);
  return await mode(join(folder, path));
}

/** A coordinator works with a key that others may read, and warns of it too (key.open). */
async function mode(file: string): Promise<Look> {
  const bits = await modeOf(file);
  const because = tooOpen(bits);
  if (because === "") return { state: "ok", says: `there, mode ${bits.toString(8)}` };
  return { state: "warn", says: `mode ${bits.toString(8)}: ${because}`, todo: `chmod 600 ${file}` };
}

async function certificate(folder: string, role: "coordinator" | "owner", nowMs: number): Promise<Look> {
  const path = role === "owner" ? PATHS.ownerCertificate : PATHS.coordinatorCertificate;
  const given = await readCertificate(folder, path);
  const authorityKey = await readHex(folder, PATHS.authorityPublic);
  const nowS = Math.floor(nowMs / 1000);
  const { notAfterS, publicKey } = verifyCertificate(given, { authority: authorityKey, role, nowS });
  if (role === "coordinator") {
    const key = await readKey(folder, PATHS.coordinatorKey);
    if (!equalBytes(key.publicKey, publicKey))
      throw new Fault("refused", path, { expected: "the key of coordinator.key", got: "another" });
  }
  return expiry(notAfterS, nowS, RENEW);
}

async function tls(folder: string, nowMs: number): Promise<Look> {
  const todo = "Make both anew with `tutti tls renew`";
  const [certificate, secret] = [
    await readText(folder, PATHS.tlsCertificate),
    await readText(folder, PATHS.tlsKey),
  ];
  const given = pem(folder, PATHS.tlsCertificate, () => new X509Certificate(certificate));
  const key = pem(folder, PATHS.tlsKey, () => createPrivateKey(secret));
  if (!given.checkPrivateKey(key))
    throw new Fault("refused", PATHS.tlsCertificate, {
      expected: "the key of tls.key",
      got: "another",
      todo,
    });
  return expiry(Date.parse(given.validTo) / 1000, nowMs / 1000, RENEW);
}

/** Whoever has it can enrol devices; a coordinator never needs it. */
async function authority(folder: string): Promise<Look> {
  const file = join(folder, PATHS.authorityKey);
  const there = await stat(file).catch(() => null);
  if (there === null) return { state: "ok", says: "not on this machine" };
  const looked = await mode(file);
  if (looked.state !== "ok") return looked;
  return { state: "warn", says: "on this machine", todo: "Keep authority/ offline: it can enrol devices" };
}
