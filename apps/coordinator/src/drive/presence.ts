import { equalBytes } from "@tutti/foundation/bytes";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { encodeKept } from "@tutti/wire/message";
import type { Instruction } from "@tutti/wire/round";
import { InstructionSchema } from "@tutti/wire/round";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";

/** How long a device whose stream ended may take to come back before a round stops waiting for it. */
export const GRACE_MS = 1_500;

/** A word also travels inside a CheckIn's reply, which adds a few bytes. */
export const MAX_WORD_BYTES = MAX_MESSAGE_BYTES - 1024;

/** What a device says it does; for people watching, never about its data. */
export type Activity = { readonly activity: string; readonly progress: number };

type Line = { say(word: Instruction): void; end(): void; last: Instruction | null };

export type PresenceEvents = { onCame(device: string): void; onGone(device: string): void };

/** Which devices hold a Listen stream, and the last word each was told. */
export class Presence {
  readonly activities = new Map<string, Activity>();
  readonly #lines = new Map<string, Line>();
  readonly #leaving = new Map<string, AbortController>();
  readonly #events: PresenceEvents;
  /** Revoked: one may have been let in by a look at the store from just before. */
  readonly #expelled = new Set<string>();
  readonly #clock: Clock;

  constructor(events: PresenceEvents, clock: Clock) {
    this.#events = events;
    this.#clock = clock;
  }

  /** Devices that are here, or left less than the grace period ago. */
  present(): string[] {
    return [...new Set([...this.#lines.keys(), ...this.#leaving.keys()])].sort();
  }

  isConnected(device: string): boolean {
    return this.#lines.has(device);
  }

  /** A stream of words to one device; a second stream of the same device ends the first. */
  async *listen(device: string, signal: AbortSignal): AsyncGenerator<Instruction> {
    const queue: Instruction[] = [];
    let wake: () => void = () => {};
    let open = true;
    const line: Line = {
      last: null,
      say: (word) => {
        // A newer word replaces one that was not sent yet: only the current one matters.
        queue.splice(0, queue.length, word);
        wake();
      },
      end: () => {
        open = false;
        wake();
      },
    };
    if (this.#expelled.has(device))
      throw new Fault("refused", `device ${device}`, {
        expected: "one of the federation",
        got: "a revoked one",
      });
    this.#arrive(device, line);
    signal.addEventListener("abort", line.end, { once: true });
    try {
      while (open && !signal.aborted) {
        const word = queue.shift();
        if (word) yield word;
        else
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
   * Says the current word to a device that is here, unless it was the last thing it heard. False for a word
   * that no message can hold: saying it would end the line, and again whenever the device comes back.
   */
  tell(device: string, word: Instruction): boolean {
    const line = this.#lines.get(device);
    // Asked after every commit, of everybody: mostly there is nothing new.
    if (line === undefined || line.last === word) return true;
    const bytes = encodeKept(InstructionSchema, word);
    if (bytes.length > MAX_WORD_BYTES) return false;
    const said = line.last !== null && equalBytes(encodeKept(InstructionSchema, line.last), bytes);
    line.last = word;
    if (!said) line.say(word);
    return true;
  }

  /** Ends a device's stream for good: it is gone now, not after a grace period, and comes no more. */
  expel(device: string): void {
    this.#expelled.add(device);
    this.#lines.get(device)?.end();
    this.#lines.delete(device);
    this.#stays(device);
    this.activities.delete(device);
    this.#events.onGone(device);
  }

  close(): void {
    for (const line of this.#lines.values()) line.end();
    for (const device of this.#leaving.keys()) this.#stays(device);
  }

  #arrive(device: string, line: Line): void {
    this.#lines.get(device)?.end();
    this.#stays(device);
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
      this.activities.delete(device);
      this.#events.onGone(device);
    };
    this.#clock.sleep(GRACE_MS, grace.signal).then(gone, () => {});
  }

  /** Its grace period, if it was in one, is over without its being gone. */
  #stays(device: string): void {
    this.#leaving.get(device)?.abort();
    this.#leaving.delete(device);
  }
}
