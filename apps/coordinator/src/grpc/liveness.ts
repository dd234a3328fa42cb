import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { LOOK_MS, type Mark, MEASURED_BYTES, Throughput, UNCONFIRMED_BYTES } from "./throughput.ts";
import type { Turned } from "./turned.ts";

/**
 * Devices that serve runs, each with the time within which it answers a PING unless it is gone; 0: it cannot
 * say, and only its link is measured.
 */
export type Serving = Iterable<readonly [device: string, withinMs: number]>;

/** A look at one device: when it is, how long after the one before, and what the device asks for. */
type Look = { readonly nowMs: number; readonly passedMs: number; readonly withinMs: number };
type Open = { readonly socket: Socket; readonly session: ServerHttp2Session; readonly nowMs: number };
type Connection = { readonly socket: Socket; readonly session: ServerHttp2Session | null };

/** A connection, as of the last look. */
type Seen = {
  /** Bytes that came since it began. */
  came: number;
  readonly throughput: Throughput;
  /** The one PING that is not answered yet, and for how long nothing has come since. */
  ping: { readonly mark: Mark; waitedMs: number } | null;
};

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

  look(serving: Serving): void {
    const nowMs = this.#options.nowMs();
    // While this process itself stood still it read no answers.
    const passedMs = Math.min(nowMs - this.#lookedMs, LOOK_MS);
    this.#lookedMs = nowMs;
    for (const [device, withinMs] of serving)
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
      if (seen.throughput.unconfirmed(socket.bytesWritten) >= MEASURED_BYTES)
        this.#pingIfUnconfirmed(seen, { socket, session, nowMs });
    }
  }

  #lookAt({ socket, session }: Connection, { nowMs, passedMs, withinMs }: Look): void {
    if (!isOpen(session)) return;
    const seen = this.#seenOf(socket, nowMs);
    const quiet = seen.came === socket.bytesRead && !this.#options.load.isBusy(session) && withinMs > 0;
    seen.came = socket.bytesRead;
    const { ping, throughput } = seen;
    if (!ping) {
      const open = { socket, session, nowMs };
      if (!this.#pingIfUnconfirmed(seen, open) && quiet) this.#ping(seen, open);
      return;
    }
    ping.waitedMs = quiet ? ping.waitedMs + passedMs : 0;
    if (!quiet || ping.waitedMs < withinMs + throughput.arrivesWithinMs(ping.mark)) return;
    this.#options.turned.add("unresponsive");
    socket.destroy();
  }

  #seenOf(socket: Socket, nowMs: number): Seen {
    const known = this.#seen.get(socket);
    if (known) return known;
    const seen: Seen = { came: -1, throughput: new Throughput(nowMs, socket.bytesWritten), ping: null };
    this.#seen.set(socket, seen);
    return seen;
  }

  /** Whether a PING is under way that confirms what was written; false: there is next to nothing of it. */
  #pingIfUnconfirmed(seen: Seen, open: Open): boolean {
    if (seen.ping) return true;
    const { bytesWritten } = open.socket;
    if (seen.throughput.unconfirmed(bytesWritten) < UNCONFIRMED_BYTES) {
      seen.throughput.restart(open.nowMs, bytesWritten);
      return false;
    }
    this.#ping(seen, open);
    return true;
  }

  #ping(seen: Seen, { socket, session, nowMs }: Open): void {
    const mark = seen.throughput.mark(nowMs, socket.bytesWritten);
    seen.ping = { mark, waitedMs: 0 };
    session.ping((error) => {
      seen.ping = null;
      // With an error it was never sent, or the session is over.
      if (!error) seen.throughput.confirm(mark, this.#options.nowMs());
    });
  }
}

/** Others are closing already; and without a session nobody signed anything over it. */
function isOpen(session: ServerHttp2Session | null): session is ServerHttp2Session {
  return session !== null && !session.destroyed && !session.closed;
}

export type LivenessWatch = {
  /** Liveness.asked */
  asked(device: string): void;
  end(): void;
};

/** Looks every LOOK_MS, until it is told to end. */
export function watchLiveness(
  options: Omit<LivenessOptions, "nowMs"> & { serving: () => Serving },
): LivenessWatch {
  const liveness = new Liveness({ ...options, nowMs: () => performance.now() });
  const timer = setInterval(() => liveness.look(options.serving()), LOOK_MS);
  timer.unref();
  return { asked: (device) => liveness.asked(device), end: () => clearInterval(timer) };
}
