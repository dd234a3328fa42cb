import { equalBytes, hex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import type { SecretRandom } from "@tutti/foundation/random";
import { denied } from "@tutti/identity/denial";
import type { Verify } from "@tutti/identity/keys";
import { NAME } from "@tutti/identity/name";
import { verifyRequest } from "@tutti/identity/request";
import { parseAuthorization } from "@tutti/wire/authorization";
import type { RequestAuth } from "@tutti/wire/device";
import { type Caller, type DescMethod, pathOf } from "@tutti/wire/rpc";
import { type Session, Sessions } from "./sessions.ts";

/** A request before it is known who sent it. */
export type Unproven = {
  readonly method: DescMethod;
  /** The RequestAuth beside it, if there is one, and its first message's bytes. */
  readonly auth: string | undefined;
  readonly body: Uint8Array;
  /** The key that the connection's TLS certificate proved; null where there is none. */
  readonly peerKey: Uint8Array | null;
};

/** Who sent a request; null for the methods open to all. */
export type Authenticate = (request: Unproven) => Promise<Caller | null>;

export type Authenticator = {
  /** For Hello: a fresh session, and the wall clock that expiries are measured on. */
  openSession(): { session: Uint8Array; nowMs: number };
  /**
   * @throws Fault("refused") naming what is wrong: no signature, session, expiry, nonce, name or signature.
   */
  readonly authenticate: Authenticate;
};

/** Whose key stands behind a name. */
export type Party = Omit<Caller, "name"> & {
  readonly publicKey: Uint8Array;
  /** Why nothing of it is taken all the same; told to whoever has the key, and to nobody else. */
  readonly denied?: Fault;
};

/** Undefined for a name that nobody has. */
export type Lookup = (name: string) => Promise<Party | undefined>;

export type AuthenticatorOptions = {
  readonly lookup: Lookup;
  readonly nowMs: () => number;
  readonly random: SecretRandom;
  readonly verify: Verify;
};

/** Hello gives a session and Enroll a name; before them there is nothing to sign with. */
const OPEN = new Set([
  "/tutti.v1.Federation/Hello",
  "/tutti.v1.Federation/Enroll",
  // What these carry is signed by itself.
  "/tutti.v1.Standing/Renew",
  "/tutti.v1.Standing/TlsCertificates",
]);

/**
 * Signed requests (docs/protocol.md, Transport and requests): method, first message, session, nonce and
 * expiry, each used once.
 */
export function authenticator(options: AuthenticatorOptions): Authenticator {
  const { lookup, random, verify } = options;
  const nowMs = neverBack(options.nowMs);
  const sessions = new Sessions(random);
  return {
    openSession() {
      const now = nowMs();
      return { session: sessions.open(now), nowMs: now };
    },
    async authenticate({ auth: text, method, body, peerKey }) {
      const path = pathOf(method);
      if (OPEN.has(path)) return null;
      if (!text) throw new Fault("refused", "request", { expected: "a signature", got: "none" });
      const auth = parseAuthorization(text);
      const session = known(sessions, auth, nowMs());
      // A database may fail over another one, and its failure is no answer (PostgreSQL takes no NUL).
      const party = NAME.test(auth.name) ? await lookup(auth.name) : undefined;
      demand(party, () => denied(auth.name, "unknown"));
      const { publicKey, role, labels } = party;
      if (peerKey) mustBeSame(auth.name, { publicKey, peerKey });
      const now = nowMs();
      verifyRequest(auth, {
        publicKey,
        method: path,
        bodyHash: sha256(body),
        session: auth.session,
        nowMs: now,
        verify,
      });
      // Nothing awaits between here and the return: of two copies that race, one is recorded first.
      sessions.use(session, { name: auth.name, nonce: auth.nonce, expiresMs: auth.expiresMs }, now);
      if (party.denied) throw party.denied;
      return { name: auth.name, role, labels };
    },
  };
}

/** Who shows a certificate speaks for nobody else on that connection. */
export function mustBeSame(
  name: string,
  { publicKey, peerKey }: { publicKey: Uint8Array; peerKey: Uint8Array },
): void {
  if (equalBytes(publicKey, peerKey)) return;
  throw new Fault("refused", `request by ${printable(name)}`, {
    expected: "a connection with its own TLS certificate",
    got: "another's",
  });
}

function known(sessions: Sessions, auth: RequestAuth, nowMs: number): Session {
  const session = sessions.find(hex(auth.session), nowMs);
  if (session) return session;
  throw new Fault("refused", "request", {
    expected: "a session of this coordinator",
    got: "another",
    todo: "Say Hello again",
  });
}

/**
 * A wall clock that stands still when it is set back: a captured request whose nonce was forgotten at its
 * expiry cannot become fresh again.
 */
function neverBack(nowMs: () => number): () => number {
  let latest = Number.NEGATIVE_INFINITY;
  return () => {
    latest = Math.max(latest, nowMs());
    return latest;
  };
}

function printable(name: string): string {
  return NAME.test(name) ? name : "another";
}
