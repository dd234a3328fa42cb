import { issue, type Role } from "@tutti/identity/certificate";
import { type SigningKey, signingKey } from "@tutti/identity/keys";
import type { Signer, Trust } from "../src/dsse.ts";
import type { Release } from "../src/manifest.ts";

/** A small federation for the tests: everything in it follows from one-byte seeds. */

export const NOW_S = 1_800_000_000;

export function key(seed: number): SigningKey {
  return signingKey(new Uint8Array(32).fill(seed));
}

export const AUTHORITY = key(1);
export const STRANGER = key(2);

export function signer(role: Role, seed: number, authority: SigningKey = AUTHORITY): Signer {
  const own = key(seed);
  const certificate = issue(authority, {
    role,
    name: `${role}-${seed}`,
    publicKey: own.publicKey,
    notBeforeS: NOW_S - 1000,
    notAfterS: NOW_S + 1000,
    serial: Uint8Array.of(seed),
    labels: { site: "oslo" },
  });
  return { key: own, certificate };
}

export const OWNER = signer("owner", 10);
export const COORDINATOR = signer("coordinator", 11);
export const TRUST: Trust = { authority: AUTHORITY.publicKey, nowS: NOW_S };

export const RELEASE: Release = {
  run: "aa".repeat(32),
  version: 3,
  round: 7,
  base: { sha256: "bb".repeat(32) },
  adapter: { sha256: "cc".repeat(32), bytes: 1234 },
  parent: "dd".repeat(32),
  cohorts: [5, 4],
  secureAggregation: true,
  privacy: null,
  transcript: "ee".repeat(32),
  method: "rolora",
  rank: 4,
  alpha: 8,
  createdAt: "2026-01-31T12:00:00Z",
};
