import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Life } from "./life.ts";
import type { Timeline } from "./timeline.ts";

/** How likely each message meets what; all zero in calm weather. */
export type NetWeather = {
  /** Lost, and the sender hears of it or not. */
  lost: number;
  /** Far later than the messages sent after it. */
  late: number;
  /** A request that arrives once more, at once or much later. */
  repeated: number;
};

export const CALM: NetWeather = { lost: 0, late: 0, repeated: 0 };

const SOON_MS = 8;
const LATE_MS = 4_000;
const REPEATED_MS = 25_000;
/** A peer that vanished without a word is noticed by keepalive. */
const KEEPALIVE_MS = 40_000;
const RESET_MS = 200;

/** One call in progress, as its two ends see it. */
export type Call = {
  readonly device: string;
  readonly client: Life;
  /** Null until its request arrived. */
  server: Life | null;
  /** Of a stream up, the process that its first message went to. */
  bound?: Life | null;
  /** Ends it at the client. */
  readonly fail: (fault: Fault) => void;
  /** The server's end. */
  readonly stop: AbortController;
  /** Called once, as it is over at the client. */
  readonly left: () => void;
  over: boolean;
  /** Nothing gets through it any more, though its ends may not know yet. */
  broken: boolean;
};

type Carry = {
  readonly to: () => Life | null;
  /** An answer, which nobody waits for once its call is over; a request may arrive all the same. */
  readonly back?: boolean;
  readonly deliver: () => void;
  /** Not before the message before it of the same stream. */
  readonly notBeforeMs?: number;
};

/**
 * What is between devices and coordinator: every message takes its own time and may be lost, late or
 * repeated; a device may be cut off. A lost message breaks its call: at once, or when keepalive misses it,
 * unless the call's own deadline is sooner.
 */
export class Network {
  readonly timeline: Timeline;
  readonly #chance: SeededRandom;
  readonly #note: (kind: string) => void;
  readonly calls = new Set<Call>();
  /** Devices that are cut off, and until when. */
  readonly #apart = new Map<string, number>();
  weather: NetWeather = CALM;
  /** Copies of requests that wait for the next of their kind and device. */
  readonly #held = new Map<string, (() => void)[]>();

  constructor(timeline: Timeline, chance: SeededRandom, note: (kind: string) => void) {
    this.timeline = timeline;
    this.#chance = chance;
    this.#note = note;
  }

  /** A message on its way; the moment that it arrives, or null where it never does. */
  carry(call: Call, message: Carry): number | null {
    if (call.broken) return null;
    if (this.#strikes("lost", this.weather.lost)) {
      // Of a stream nothing can be missing in between.
      if (message.notBeforeMs !== undefined || this.#chance.uniform() < 0.7) this.break(call);
      else this.timeline.after(KEEPALIVE_MS * (0.5 + this.#chance.uniform() / 2), () => this.break(call));
      return null;
    }
    let ms = 1 + this.#chance.uniform() * SOON_MS;
    if (this.#strikes("late", this.weather.late)) ms += this.#chance.uniform() * LATE_MS;
    const atMs = Math.max(this.timeline.nowMs + ms, message.notBeforeMs ?? 0);
    this.#arrive(call, atMs, message);
    return atMs;
  }

  /**
   * A request may arrive once more: soon, much later, or just when its sender makes the next of its kind,
   * which is of another round or session by then.
   */
  repeat(kind: string, arrive: () => void): void {
    for (const act of this.#held.get(kind)?.splice(0) ?? [])
      this.timeline.after(this.#chance.uniform() * SOON_MS, act);
    if (!this.#strikes("repeated", this.weather.repeated)) return;
    const drawn = this.#chance.uniform();
    if (drawn < 0.3) this.#held.set(kind, [...(this.#held.get(kind) ?? []), arrive]);
    else this.timeline.after(1 + this.#chance.uniform() * (drawn < 0.6 ? SOON_MS : REPEATED_MS), arrive);
  }

  /** Both ends of a call hear that it broke, each in its time; the server sometimes only by keepalive. */
  break(call: Call, { silent = this.#chance.uniform() < 0.15 } = {}): void {
    if (call.over || call.broken) return;
    call.broken = true;
    const server = call.server;
    if (server) {
      const ms = silent
        ? KEEPALIVE_MS * (0.5 + this.#chance.uniform() / 2)
        : this.#chance.uniform() * RESET_MS;
      if (silent) this.#note("half-open");
      server.later(ms, () => call.stop.abort(new Fault("cancelled", "connection", { got: "its end" })));
    }
    call.client.later(this.#chance.uniform() * RESET_MS, () =>
      call.fail(new Fault("unavailable", "connection", { got: "a reset" })),
    );
  }

  /** Every call of a device breaks. */
  cut(device: string, options: { silent?: boolean } = {}): void {
    for (const call of this.calls) if (call.device === device) this.break(call, options);
  }

  /** Every call of a process breaks: it died. */
  gone(life: Life): void {
    for (const call of this.calls) if (call.client === life || call.server === life) this.break(call);
  }

  /** Nothing gets through to or from a device for so long; what is sent meanwhile arrives after. */
  part(device: string, ms: number): void {
    // What is kept back comes at its end, in its order: it has one end only.
    if (this.#isApart(device)) return;
    this.#apart.set(device, this.timeline.nowMs + ms);
    this.timeline.after(KEEPALIVE_MS / 2, () => {
      if (this.#isApart(device)) this.cut(device, { silent: false });
    });
  }

  #isApart(device: string): boolean {
    return (this.#apart.get(device) ?? 0) > this.timeline.nowMs;
  }

  #arrive(call: Call, atMs: number, carry: Carry): void {
    const { to, deliver, back } = carry;
    const arrive = () => {
      if (call.over && back) return;
      const untilMs = this.#apart.get(call.device) ?? 0;
      // TCP sends it again until it gets through; of a stream everything in its order.
      const late = carry.notBeforeMs === undefined ? this.#chance.uniform() * RESET_MS : 0;
      if (untilMs > this.timeline.nowMs) return this.#arrive(call, untilMs + late, carry);
      const life = to();
      if (life === null) return void this.break(call);
      // A connection is with one process: what follows goes there too, though it stand still.
      if (!back) call.server ??= life;
      life.later(0, deliver);
    };
    this.timeline.after(atMs - this.timeline.nowMs, arrive);
  }

  #strikes(kind: string, probability: number): boolean {
    if (probability === 0 || this.#chance.uniform() >= probability) return false;
    this.#note(kind);
    return true;
  }
}
