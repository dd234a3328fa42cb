import { canonical, equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type RequestAuth, RequestAuthSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { verify as portableVerify, type SigningKey, type Verify } from "./keys.ts";

/** How long a signed request may be good for: longer would widen what a captured header is worth. */
export const MAX_REQUEST_MS = 5 * 60_000;

/** What a signature over a request covers (docs/protocol.md, Transport and requests). */
export type RequestClaims = {
  readonly name: string;
  readonly session: Uint8Array;
  /** "/tutti.v1.Federation/Ready" */
  readonly method: string;
  /** SHA-256 of the first request message's bytes. */
  readonly bodyHash: Uint8Array;
  /** 16 fresh bytes. */
  readonly nonce: Uint8Array;
  /** On the coordinator's wall clock. */
  readonly expiresMs: number;
};

export function signRequest(key: SigningKey, claims: RequestClaims): RequestAuth {
  const { name, session, nonce, expiresMs } = claims;
  return create(RequestAuthSchema, {
    name,
    session,
    nonce,
    expiresMs,
    signature: key.sign(statement(claims)),
  });
}

/**
 * @throws Fault("refused") naming what is wrong: session, expiry or signature. Nonces are the caller's to
 * remember.
 */
export function verifyRequest(
  auth: RequestAuth,
  options: {
    publicKey: Uint8Array;
    method: string;
    bodyHash: Uint8Array;
    session: Uint8Array;
    nowMs: number;
    verify?: Verify;
  },
): void {
  const { publicKey, method, bodyHash, session, nowMs, verify = portableVerify } = options;
  const refuse = (expected: string, got: string) => () =>
    new Fault("refused", `request by ${auth.name}`, { expected, got });
  demand(equalBytes(auth.session, session), refuse("the session in use", "another"));
  demand(auth.nonce.length === 16, refuse("a nonce of 16 bytes", `${auth.nonce.length}`));
  const leftMs = auth.expiresMs - nowMs;
  demand(
    leftMs > 0 && leftMs <= MAX_REQUEST_MS,
    refuse(`an expiry within ${MAX_REQUEST_MS} ms`, `${Math.round(leftMs)} ms`),
  );
  const claims = { name: auth.name, session, method, bodyHash, nonce: auth.nonce, expiresMs: auth.expiresMs };
  demand(verify(publicKey, statement(claims), auth.signature), refuse("its own signature", "another"));
}

function statement({ name, session, method, bodyHash, nonce, expiresMs }: RequestClaims): Uint8Array {
  return canonical("tutti/request/v1", name, method, bodyHash, session, nonce, Math.floor(expiresMs));
}
