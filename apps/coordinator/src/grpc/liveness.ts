import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { Turned } from "./turned.ts";

/** How often it looks. */
export const LOOK_MS = 500;

/** Devices that rounds wait for, each with the time within which it answers a PING unless it is gone. */
export type Awaited = Iterable<readonly [device: string, withinMs: number]>;

type Connection = { readonly socket: Socket; readonly session: ServerHttp2Session | null };

/** A connection, as of the last look. */
type Seen = {
  atMs: number;
  /** Bytes that came, and that went, since it began. */
  came: number;
  went: number;
  /** Of what went, what may still be on its way over a link of SLOW_BYTES_PER_S. */
  underWay: number;
  /** A PING that nothing came after: how long ago, and how long it may take. */
  asked: { ms: number; readonly withinMs: number } | null;
};

/** A PING waits behind what was sent before it; slower links are not told from those that are cut. */
const SLOW_BYTES_PER_S = 8 << 10;
/** As much as HTTP/2 lets a device's connection have under way. */
const MOST_UNDER_WAY = 64 << 10;

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
 * goes only to those that are quiet; its answer counts like all else that comes.
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

  #lookAt({ socket, session }: Connection, now: { nowMs: number; passedMs: number; withinMs: number }): void {
    const { load, turned } = this.#options;
    // It is closing already; and without a session nobody signed anything over it.
    if (!session || session.destroyed || session.closed) return;
    const before = this.#seen.get(socket);
    const seen = lookedAgain(socket, before, now.nowMs);
    this.#seen.set(socket, seen);
    if (before?.came !== seen.came || load.isBusy(session)) {
      seen.asked = null;
      return;
    }
    if (seen.asked === null) {
      session.ping(() => {});
      seen.asked = { ms: 0, withinMs: now.withinMs + (seen.underWay / SLOW_BYTES_PER_S) * 1000 };
      return;
    }
    seen.asked.ms += now.passedMs;
    if (seen.asked.ms < seen.asked.withinMs) return;
    turned.add("unresponsive");
    socket.destroy();
  }
}

/** Of one that is seen for the first time it is not known what went of late: as much as went at all. */
function lookedAgain({ bytesRead, bytesWritten }: Socket, before: Seen | undefined, atMs: number): Seen {
  const now = { atMs, came: bytesRead, went: bytesWritten };
  if (!before) return { ...now, underWay: Math.min(MOST_UNDER_WAY, bytesWritten), asked: null };
  const arrived = ((atMs - before.atMs) * SLOW_BYTES_PER_S) / 1000;
  const underWay = Math.max(0, before.underWay - arrived) + bytesWritten - before.went;
  return { ...now, underWay: Math.min(MOST_UNDER_WAY, underWay), asked: before.asked };
}

/** Looks every LOOK_MS, until it is told to end. */
export function watchLiveness(
  options: Omit<LivenessOptions, "nowMs"> & { awaited: () => Awaited },
): () => void {
  const liveness = new Liveness({ ...options, nowMs: () => performance.now() });
  const timer = setInterval(() => liveness.look(options.awaited()), LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
