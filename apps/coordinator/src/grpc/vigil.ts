import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { Turned } from "./turned.ts";

/** How often it looks. */
export const VIGIL_MS = 500;

/** Devices that rounds wait for, each with the time within which it answers a PING unless it is gone. */
export type Awaited = Iterable<readonly [device: string, withinMs: number]>;

/** A connection of a device. */
type Line = { readonly socket: Socket; readonly session: ServerHttp2Session | null };

/** Of a connection: what had come at the last look; how long a PING is unanswered, null where none is. */
type Seen = { bytes: number; unansweredMs: number | null };

export type VigilOptions = {
  readonly linesOf: (device: string) => readonly Line[];
  readonly nowMs: () => number;
  readonly turned: Turned;
};

/**
 * Cuts the connections of devices that rounds wait for and that stand still: stopped, or gone without a word,
 * which a TCP connection outlives for half a minute. Whoever sends anything is there, so a PING goes only to
 * those that are quiet; its answer counts like all else that comes.
 */
export class Vigil {
  readonly #options: VigilOptions;
  readonly #seen = new WeakMap<Socket, Seen>();
  #lookedMs: number;

  constructor(options: VigilOptions) {
    this.#options = options;
    this.#lookedMs = options.nowMs();
  }

  look(awaited: Awaited): void {
    const nowMs = this.#options.nowMs();
    // While this process itself stood still it read no answers.
    const passedMs = Math.min(nowMs - this.#lookedMs, VIGIL_MS);
    this.#lookedMs = nowMs;
    for (const [device, withinMs] of awaited)
      for (const line of this.#options.linesOf(device)) this.#lookAt(line, { passedMs, withinMs });
  }

  #lookAt({ socket, session }: Line, { passedMs, withinMs }: { passedMs: number; withinMs: number }): void {
    const seen = this.#seen.get(socket);
    if (seen?.bytes !== socket.bytesRead)
      return void this.#seen.set(socket, { bytes: socket.bytesRead, unansweredMs: null });
    if (seen.unansweredMs === null) {
      if (!session || session.destroyed || session.closed) return;
      session.ping(() => {});
      seen.unansweredMs = 0;
      return;
    }
    seen.unansweredMs += passedMs;
    if (seen.unansweredMs < withinMs) return;
    this.#options.turned.add("still");
    socket.destroy();
  }
}

/** Looks every VIGIL_MS, until it is told to end. */
export function keepVigil(options: Omit<VigilOptions, "nowMs"> & { awaited: () => Awaited }): () => void {
  const vigil = new Vigil({ ...options, nowMs: () => performance.now() });
  const timer = setInterval(() => vigil.look(options.awaited()), VIGIL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
