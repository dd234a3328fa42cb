import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { Turned } from "./turned.ts";

/** How often it looks. */
export const LOOK_MS = 250;

/**
 * Devices that serve runs, each with the time within which it answers a PING unless it is gone; 0: it cannot
 * say, and only its link is measured.
 */
export type Awaited = Iterable<readonly [device: string, withinMs: number]>;

type Look = { readonly nowMs: number; readonly passedMs: number; readonly withinMs: number };
type Open = { readonly socket: Socket; readonly session: ServerHttp2Session; readonly nowMs: number };
type Connection = { readonly socket: Socket; readonly session: ServerHttp2Session | null };

/**
 * A PING overtakes what HTTP/2 still holds back, and nothing that the socket was given: it is behind exactly
 * the bytes that count as written when it is sent, and its answer proves that those arrived.
 */
type Ping = {
  readonly sentMs: number;
  /** Bytes that were written before it, and how many of them no answer had confirmed. */
  readonly written: number;
  readonly underWay: number;
  /** For how long nothing has come since. */
  waitedMs: number;
};

/** So many bytes at once, at this rate or faster. */
type Carried = { readonly bytes: number; readonly bytesPerS: number };

/** A connection, as of the last look. */
type Seen = {
  /** Bytes that came since it began. */
  came: number;
  /** Bytes written that an answer confirmed. */
  arrived: number;
  /** A moment, and how many bytes were written until then: what followed them had no more time than since. */
  from: { readonly ms: number; readonly written: number };
  /** What the link carried at least, whenever it was seen to of late. */
  readonly carried: Carried[];
  /** The one that is not answered yet. */
  ping: Ping | null;
};

/** What a link is taken for until it was measured; slower ones are not told from those that are cut. */
const SLOW_BYTES_PER_S = 8 << 10;
/** As much as HTTP/2 lets a device's connection have under way. */
const MOST_UNDER_WAY = 64 << 10;
/** Less than this needs no PING of its own: the slowest link carries it within half a look. */
const UNCONFIRMED_BYTES = (SLOW_BYTES_PER_S * LOOK_MS) / 2000;
/** Fewer bytes that arrive at once say how much there was to send, not what the link can carry. */
const MEASURED_BYTES = 3 << 10;
/** A link counts as the slowest of so many measurements: what it can do goes up and down. */
const MEASURED = 3;
/** And may be slower still the next time. */
const MARGIN = 2;
const NOTHING: Carried = { bytes: 0, bytesPerS: 0 };

export type LivenessOptions = {
  readonly connections: { connectionsOf(device: string): readonly Connection[] };
  /** Whether a call other than Listen is in progress: those have their own watch (stall.ts). */
  readonly load: { isBusy(session: ServerHttp2Session): boolean };
  readonly nowMs: () => number;
  readonly turned: Turned;
};

/**
 * Cuts the connections of devices that rounds wait for and that stand still: stopped, or gone without a word,
 * which a TCP connection outlives until keepalive gives it up. Whoever sends anything is there, so a PING
 * goes only to those that are quiet, and to those whose link has something under way: one at a time, whose
 * answer says what the link carries and counts like all else that comes.
 */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #seen = new WeakMap<Socket, Seen>();
  #lookedMs: number;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.#lookedMs = options.nowMs();
  }

  look(awaited: Awaited): void {
    const nowMs = this.#options.nowMs();
    // While this process itself stood still it read no answers.
    const passedMs = Math.min(nowMs - this.#lookedMs, LOOK_MS);
    this.#lookedMs = nowMs;
    for (const [device, withinMs] of awaited)
      for (const connection of this.#options.connections.connectionsOf(device))
        this.#lookAt(connection, { nowMs, passedMs, withinMs });
  }

  /**
   * A signed request came from a device: what was written before can be confirmed now, long before the next
   * look. Most of a round's bytes are answers to requests, so one that stops then has little under way.
   */
  asked(device: string): void {
    const nowMs = this.#options.nowMs();
    for (const { socket, session } of this.#options.connections.connectionsOf(device)) {
      // Nothing is kept of those that serve no run.
      const seen = this.#seen.get(socket);
      if (!seen || !isOpen(session)) continue;
      // One for every request would be felt in a round of many devices.
      if (socket.bytesWritten - seen.arrived >= MEASURED_BYTES)
        this.#measure(seen, { socket, session, nowMs });
    }
  }

  #lookAt({ socket, session }: Connection, { nowMs, passedMs, withinMs }: Look): void {
    if (!isOpen(session)) return;
    const seen = this.#seenOf(socket, nowMs);
    const quiet = seen.came === socket.bytesRead && !this.#options.load.isBusy(session) && withinMs > 0;
    seen.came = socket.bytesRead;
    const { ping } = seen;
    if (!ping) {
      const open = { socket, session, nowMs };
      if (!this.#measure(seen, open) && quiet) this.#ping(seen, open);
      return;
    }
    ping.waitedMs = quiet ? ping.waitedMs + passedMs : 0;
    if (!quiet || ping.waitedMs < withinMs + arrivesWithinMs(ping, seen)) return;
    this.#options.turned.add("unresponsive");
    socket.destroy();
  }

  #seenOf(socket: Socket, nowMs: number): Seen {
    const known = this.#seen.get(socket);
    if (known) return known;
    // Of one that is seen for the first time all that ever went may be under way.
    const from = { ms: nowMs, written: socket.bytesWritten };
    const seen: Seen = { came: -1, arrived: 0, from, carried: [], ping: null };
    this.#seen.set(socket, seen);
    return seen;
  }

  /** Sees to it that what was written is confirmed; false where there is nothing of it. */
  #measure(seen: Seen, open: Open): boolean {
    if (seen.ping) return true;
    const { bytesWritten } = open.socket;
    if (bytesWritten - seen.arrived < UNCONFIRMED_BYTES) {
      seen.from = { ms: open.nowMs, written: bytesWritten };
      return false;
    }
    this.#ping(seen, open);
    return true;
  }

  #ping(seen: Seen, { socket, session, nowMs }: Open): void {
    const written = socket.bytesWritten;
    const underWay = Math.min(MOST_UNDER_WAY, written - seen.arrived);
    const ping: Ping = { sentMs: nowMs, written, underWay, waitedMs: 0 };
    seen.ping = ping;
    session.ping((error) => {
      seen.ping = null;
      // With an error it was never sent, or the session is over.
      if (!error) confirm(seen, ping, this.#options.nowMs());
    });
  }
}

/** Others are closing already; and without a session nobody signed anything over it. */
function isOpen(session: ServerHttp2Session | null): session is ServerHttp2Session {
  return session !== null && !session.destroyed && !session.closed;
}

/**
 * How long a PING may take to a device's end, behind what is under way. Links that are throttled let a few
 * kilobytes through at once, so what was measured speaks for as many bytes, and for no more.
 */
function arrivesWithinMs({ underWay }: Ping, { carried }: Seen): number {
  const measured = carried.length > 0 ? carried : [NOTHING];
  const slowest = measured.map(({ bytes, bytesPerS }) => {
    const known = Math.min(underWay, bytes);
    return known / Math.max(SLOW_BYTES_PER_S, bytesPerS / MARGIN) + (underWay - known) / SLOW_BYTES_PER_S;
  });
  return Math.max(...slowest) * 1000;
}

/**
 * A PING's answer came. What was written after `from` took no longer than from then on; it may have been
 * under way long before the PING, whose own time says nothing. An answer that is late without so much before
 * it tells of a link that became slow, or of a device that computes: it counts as the former.
 */
function confirm(seen: Seen, ping: Ping, nowMs: number): void {
  const bytes = ping.written - seen.from.written;
  if (bytes >= MEASURED_BYTES || nowMs - ping.sentMs > LOOK_MS) {
    seen.carried.push({ bytes, bytesPerS: (bytes * 1000) / (nowMs - seen.from.ms) });
    if (seen.carried.length > MEASURED) seen.carried.shift();
  }
  seen.arrived = ping.written;
  seen.from = { ms: ping.sentMs, written: ping.written };
}

export type LivenessWatch = {
  /** Liveness.asked */
  asked(device: string): void;
  end(): void;
};

/** Looks every LOOK_MS, until it is told to end. */
export function watchLiveness(
  options: Omit<LivenessOptions, "nowMs"> & { awaited: () => Awaited },
): LivenessWatch {
  const liveness = new Liveness({ ...options, nowMs: () => performance.now() });
  const timer = setInterval(() => liveness.look(options.awaited()), LOOK_MS);
  timer.unref();
  return { asked: (device) => liveness.asked(device), end: () => clearInterval(timer) };
}
