import { randomBytes } from "node:crypto";
import { isIP } from "node:net";

/** The longest life that TLS stacks accept of a certificate. */
export const TLS_DAYS = 825;
const DAY_MS = 86_400_000;
/** A device's clock may run behind ours. */
const SKEW_MS = 3_600_000;

/** Private key and certificate, PEM both. */
export type Tls = { readonly key: string; readonly certificate: string };

/**
 * A self-signed EC P-256 certificate for a host and for this machine; devices pin it from their join file.
 */
export async function newTls(options: { name: string; host: string; nowMs: number }): Promise<Tls> {
  const { name, host, nowMs } = options;
  // 8 MB of a coordinator that runs for years and makes none.
  const { generate } = await import("./self-signed.ts");
  const hosts = [...new Set(["localhost", "127.0.0.1", "::1", host])];
  // OpenSSL looks a pinned certificate up by its subject: of two with one subject it knows the first alone.
  const subject = `${name.slice(0, 47)} ${randomBytes(8).toString("hex")}`;
  const made = await generate([{ name: "commonName", value: subject }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notBeforeDate: new Date(nowMs - SKEW_MS),
    notAfterDate: new Date(nowMs + TLS_DAYS * DAY_MS),
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      {
        name: "subjectAltName",
        altNames: hosts.map((one) => (isIP(one) ? { type: 7, ip: one } : { type: 2, value: one })),
      },
    ],
  });
  return { key: made.private, certificate: made.cert };
}
