import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { Turned } from "./turned.ts";

/** How often it looks. */
export const LOOK_MS = 500;

/** Devices that rounds wait for, each with the time within which it answers a PING unless it is gone. */
export type Awaited = Iterable<readonly [device: string, withinMs: number]>;

type Connection = { readonly socket: Socket; readonly session: ServerHttp2Session | null };

/** What had come over a connection at the last look; how long a PING is unanswered, null where none is. */
type Seen = { bytes: number; unansweredMs: number | null };

export type LivenessOptions = {
  readonly connectionsOf: (device: string) => readonly Connection[];
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
      for (const connection of this.#options.connectionsOf(device))
        this.#lookAt(connection, { passedMs, withinMs });
  }

  #lookAt(
    { socket, session }: Connection,
    { passedMs, withinMs }: { passedMs: number; withinMs: number },
  ): void {
    const seen = this.#seen.get(socket);
    if (seen?.bytes !== socket.bytesRead)
      return void this.#seen.set(socket, { bytes: socket.bytesRead, unansweredMs: null });
    if (seen.unansweredMs === null) {
      // It is closing already; and without a session nobody signed anything over it.
      if (!session || session.destroyed || session.closed) return;
      session.ping(() => {});
      seen.unansweredMs = 0;
      return;
    }
    seen.unansweredMs += passedMs;
    if (seen.unansweredMs < withinMs) return;
    this.#options.turned.add("unresponsive");
    socket.destroy();
  }
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
