import { hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { SecretRandom } from "@tutti/foundation/random";

const IDLE_MS = 24 * 3_600_000;
/** Hello is open to all: a session that nobody signed for is soon forgotten. */
const UNUSED_MS = 5 * 60_000;
const MAX_SESSIONS = 50_000;
/** A device has one link, and after a crash or two some that nobody closed. */
const SESSIONS_PER_NAME = 8;
/**
 * Of a name, in all its sessions: 2 MB, and 270 requests a second for the minute that our clients sign for.
 * Who sends more is asked to come back, and takes no room from others.
 */
const NONCES_PER_NAME = 16_384;
/** Freed at once, so that a flood is not looked through for each of its requests. */
const ROOM = 1_000;

/** The sessions a coordinator opened; in memory alone, so a restart makes every older signature worthless. */
export class Sessions {
  readonly #all = new Map<string, Session>();
  /** Those that a name signed for, oldest first; some may be over. */
  readonly #named = new Map<string, Session[]>();
  readonly #random: SecretRandom;

  constructor(random: SecretRandom) {
    this.#random = random;
  }

  open(nowMs: number): Uint8Array {
    this.#makeRoom(nowMs);
    const id = this.#random.bytes(16);
    const name = hex(id);
    this.#all.set(name, new Session(name, nowMs));
    return id;
  }

  /** The session of this id, unless it was idle for too long. */
  find(id: string, nowMs: number): Session | undefined {
    const session = this.#all.get(id);
    if (!session?.isOver(nowMs)) return session;
    this.#all.delete(id);
    return undefined;
  }

  /**
   * Records a request whose signature is good. A name that has too many sessions loses its oldest: used ones
   * live for long, and one device must not hold them all. @throws as Session.use.
   */
  use(session: Session, request: Signed, nowMs: number): void {
    const fresh = !session.used;
    const before = this.#named.get(request.name) ?? [];
    session.use(request, nowMs, NONCES_PER_NAME - remembered(before, session, nowMs));
    if (!fresh) return;
    const own = before.filter(({ id }) => this.#all.has(id));
    own.push(session);
    for (const { id } of own.splice(0, own.length - SESSIONS_PER_NAME)) this.#all.delete(id);
    this.#named.set(request.name, own);
  }

  /**
   * Drops what is over; if that is not enough, the oldest that nobody used, so that a flood drops itself; and
   * then of names with more than one session all but the newest, the one that a link is on.
   */
  #makeRoom(nowMs: number): void {
    if (this.#all.size < MAX_SESSIONS) return;
    const dropIf = (isGone: (session: Session) => boolean) => {
      for (const [id, session] of this.#all) {
        if (this.#all.size <= MAX_SESSIONS - ROOM) return;
        if (isGone(session)) this.#all.delete(id);
      }
    };
    dropIf((session) => session.isOver(nowMs));
    dropIf((session) => !session.used);
    const newest = new Set([...this.#named.values()].map((own) => own.at(-1)));
    dropIf((session) => !newest.has(session));
    if (this.#all.size >= MAX_SESSIONS)
      throw new Fault("unavailable", "session", { got: "too many open ones", todo: "Try again later" });
  }
}

/** Nonces of a name's other sessions; looked through for those that are over only when there are many. */
function remembered(sessions: readonly Session[], but: Session, nowMs: number): number {
  const others = sessions.filter((session) => session !== but);
  const count = () => others.reduce((sum, { nonces }) => sum + nonces, 0);
  if (count() < NONCES_PER_NAME / 2) return count();
  for (const session of others) session.forget(nowMs, true);
  return count();
}

type Signed = { readonly name: string; readonly nonce: Uint8Array; readonly expiresMs: number };

export class Session {
  readonly id: string;
  #lastMs: number;
  #name: string | null = null;
  /** By expiry, oldest first as far as clients agree; pruned from the front. */
  readonly #nonces = new Map<string, number>();

  constructor(id: string, nowMs: number) {
    this.id = id;
    this.#lastMs = nowMs;
  }

  get nonces(): number {
    return this.#nonces.size;
  }

  get used(): boolean {
    return this.#name !== null;
  }

  isOver(nowMs: number): boolean {
    return nowMs - this.#lastMs > (this.used ? IDLE_MS : UNUSED_MS);
  }

  /**
   * Records a request whose signature is good. @throws Fault("refused") for a nonce or a session used
   * already.
   */
  use(request: Signed, nowMs: number, most: number): void {
    const { name, expiresMs } = request;
    if (this.#name !== null && this.#name !== name)
      throw new Fault("refused", `request by ${name}`, { expected: "its own session", got: "another's" });
    const nonce = hex(request.nonce);
    if (this.#nonces.has(nonce))
      throw new Fault("refused", `request by ${name}`, { expected: "a fresh nonce", got: "a replay" });
    this.forget(nowMs, this.#nonces.size >= most);
    if (this.#nonces.size >= most)
      throw new Fault("unavailable", `request by ${name}`, {
        expected: "fewer requests",
        todo: "Try again later",
      });
    this.#nonces.set(nonce, expiresMs);
    this.#name = name;
    this.#lastMs = nowMs;
  }

  /** What expired; usually one look at the oldest is enough. */
  forget(nowMs: number, all: boolean): void {
    for (const [nonce, expiresMs] of this.#nonces) {
      if (expiresMs <= nowMs) this.#nonces.delete(nonce);
      else if (!all) return;
    }
  }
}
