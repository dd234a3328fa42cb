import { equalBytes } from "@tutti/foundation/bytes";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { type Notice, NoticeSchema } from "@tutti/wire/device";
import { create, encodeKept } from "@tutti/wire/message";
import type { Instruction } from "@tutti/wire/round";
import { InstructionSchema } from "@tutti/wire/round";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";

/** How long a device whose stream ended may take to come back before a round stops waiting for it. */
export const GRACE_MS = 1_500;

/** A word also travels inside a CheckIn's reply, which adds a few bytes. */
export const MAX_WORD_BYTES = MAX_MESSAGE_BYTES - 1024;

export type News = Partial<Pick<Notice, "revocations" | "tlsCertificates" | "renewed">>;

/** What a notice is about, where words about runs have the run's id. */
const NOTICE = "notice";

/** What a device says it does; for people watching, never about its data. */
export type Activity = {
  readonly run: string;
  readonly activity: string;
  readonly progress: number;
  /** Why it declined its last invitation. */
  readonly declined?: string;
};

/**
 * A device's stream, or its box without one: what is still to be said, and the last word that was, both by
 * what they are about.
 */
type Line = {
  readonly streams: boolean;
  readonly queue: Map<string, Instruction>;
  readonly last: Map<string, Instruction>;
  wake(): void;
  end(): void;
};

export type PresenceEvents = { onCame(device: string): void; onGone(device: string): void };

/** Which devices are here, on a Listen stream or by asking now and then, and the last words each was told. */
export class Presence {
  readonly activities = new Map<string, Activity>();
  /** Of devices that say how soon they answer a PING while they serve a run: which, and how soon. */
  readonly answering = new Map<string, { readonly run: string; readonly withinMs: number }>();
  readonly #lines = new Map<string, Line>();
  readonly #leaving = new Map<string, AbortController>();
  /** When a device without a stream counts as gone unless it asks again. */
  readonly #asking = new Map<string, AbortController>();
  readonly #events: PresenceEvents;
  /** Revoked: one may have been let in by a look at the store from just before. */
  readonly #expelled = new Set<string>();
  readonly #clock: Clock;
  /** When each that is not here was here last, on the wall clock; as many as are enrolled. */
  readonly #seenMs = new Map<string, number>();

  constructor(events: PresenceEvents, clock: Clock) {
    this.#events = events;
    this.#clock = clock;
  }

  /** Devices that are here, or left less than the grace period ago. */
  present(): string[] {
    return [...new Set([...this.#lines.keys(), ...this.#leaving.keys()])].sort();
  }

  /** What a device says of itself; 0: it cannot say. */
  answersWithin(device: string, run: string, withinMs: number): void {
    if (withinMs > 0) this.answering.set(device, { run, withinMs });
    else this.answering.delete(device);
  }

  get count(): number {
    // Who leaves has no line any more.
    return this.#lines.size + this.#leaving.size;
  }

  isHere(device: string): boolean {
    return this.#lines.has(device) || this.#leaving.has(device);
  }

  isConnected(device: string): boolean {
    return this.#lines.has(device);
  }

  /** When a device was here last, on the wall clock; undefined: not since this coordinator started. */
  lastSeenMs(device: string): number | undefined {
    return this.isHere(device) ? this.#clock.wallMs() : this.#seenMs.get(device);
  }

  /** Devices that are here without a stream. */
  get askers(): number {
    return this.#asking.size;
  }

  /** A stream of words to one device; a second stream of the same device ends the first. */
  async *listen(device: string, signal: AbortSignal): AsyncGenerator<Instruction> {
    let open = true;
    let wake: () => void = () => {};
    const line: Line = {
      streams: true,
      queue: new Map(),
      last: new Map(),
      wake: () => wake(),
      end: () => {
        open = false;
        wake();
      },
    };
    this.#arrive(device, line);
    signal.addEventListener("abort", line.end, { once: true });
    try {
      while (open && !signal.aborted) {
        const [next] = line.queue;
        if (next) {
          line.queue.delete(next[0]);
          yield next[1];
        } else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      signal.removeEventListener("abort", line.end);
      this.#leave(device, line);
    }
  }

  /**
   * A device that asks now and then, without a stream: it is here until `forMs` and the grace period pass.
   * What was to be told it, oldest first, one word for each time it asks.
   */
  asked(device: string, forMs: number): Instruction | null {
    const known = this.#lines.get(device);
    if (known?.streams) return null;
    const none = () => {};
    const line = known ?? { streams: false, queue: new Map(), last: new Map(), wake: none, end: none };
    if (!known) this.#arrive(device, line);
    this.#asking.get(device)?.abort();
    const patience = new AbortController();
    this.#asking.set(device, patience);
    const gone = () => {
      this.#asking.delete(device);
      this.#lines.delete(device);
      this.#gone(device);
    };
    this.#clock.sleep(forMs + GRACE_MS, patience.signal).then(gone, () => {});
    const [next] = line.queue;
    if (!next) return null;
    line.queue.delete(next[0]);
    return next[1];
  }

  /**
   * Says the current word about something (a run) to a device that is here, unless it was the last that it
   * heard about it; a newer word replaces one that was not sent yet. False for a word that no message can
   * hold: saying it would end the line, and again whenever the device comes back.
   */
  tell(device: string, about: string, word: Instruction): boolean {
    const line = this.#lines.get(device);
    const last = line?.last.get(about);
    // Asked after every commit that concerns it: mostly there is nothing new.
    if (line === undefined || last === word) return true;
    const bytes = encodeKept(InstructionSchema, word);
    if (bytes.length > MAX_WORD_BYTES) return false;
    line.last.set(about, word);
    if (last !== undefined && equalBytes(encodeKept(InstructionSchema, last), bytes)) return true;
    // What is asked of a device comes last, after all that tells it that it is free. News take the place of
    // what they replace, so they never fall behind it.
    if (word.word.case !== "published" && word.word.case !== "runOver") line.queue.delete(about);
    line.queue.set(about, word);
    line.wake();
    return true;
  }

  /** Tells what there is to fetch, beside what is said of runs; to one device, or to all that are here. */
  remark(news: News, device?: string): void {
    for (const name of device === undefined ? this.#lines.keys() : [device]) {
      const line = this.#lines.get(name);
      const waiting = line?.queue.get(NOTICE)?.word;
      const before = waiting?.case === "notice" ? waiting.value : undefined;
      const value = Object.assign(create(NoticeSchema, before), news);
      line?.queue.set(NOTICE, create(InstructionSchema, { word: { case: "notice", value } }));
      line?.wake();
    }
  }

  /** Ends a device's stream for good: it is gone now, not after a grace period, and comes no more. */
  expel(device: string): void {
    this.#expelled.add(device);
    this.#lines.get(device)?.end();
    this.#lines.delete(device);
    this.#stays(device);
    this.#gone(device);
  }

  close(): void {
    for (const line of this.#lines.values()) line.end();
    for (const device of [...this.#leaving.keys(), ...this.#asking.keys()]) this.#stays(device);
  }

  #arrive(device: string, line: Line): void {
    if (this.#expelled.has(device))
      throw new Fault("refused", `device ${device}`, {
        expected: "one of the federation",
        got: "a revoked one",
      });
    this.#lines.get(device)?.end();
    this.#stays(device);
    // It may be another process than before, and its first round.
    this.answering.delete(device);
    this.#lines.set(device, line);
    this.#events.onCame(device);
  }

  #leave(device: string, line: Line): void {
    if (this.#lines.get(device) !== line) return;
    this.#lines.delete(device);
    const grace = new AbortController();
    this.#leaving.set(device, grace);
    const gone = () => {
      this.#leaving.delete(device);
      this.#gone(device);
    };
    this.#clock.sleep(GRACE_MS, grace.signal).then(gone, () => {});
  }

  #gone(device: string): void {
    this.#seenMs.set(device, this.#clock.wallMs());
    this.activities.delete(device);
    this.answering.delete(device);
    this.#events.onGone(device);
  }

  /** Its grace period, if it was in one, is over without its being gone. */
  #stays(device: string): void {
    for (const waiting of [this.#leaving, this.#asking]) {
      waiting.get(device)?.abort();
      waiting.delete(device);
    }
  }
}
