import type { Clock } from "@tutti/foundation/clock";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Planned, Timeline } from "./timeline.ts";

/** 2027-01-15, when every simulation begins on the calendar. */
export const WALL_START_MS = 1_800_000_000_000;

/** The wall clock of a machine: somebody may set it. */
export type Wall = { offsetMs: number };

/**
 * One life of a process, from its start to its death. Whatever it asks of the world goes through `later`: a
 * process that is dead hears of nothing any more, and one that is stopped (SIGSTOP) hears of it when it is
 * woken.
 */
export class Life {
  readonly name: string;
  readonly timeline: Timeline;
  readonly chance: SeededRandom;
  readonly clock: Clock;
  readonly #bornMs: number;
  readonly #whenDead: (() => void)[] = [];
  #frozen: (() => void)[] | null = null;
  /** How many effects until it dies at one; null: it does not. */
  #effectsLeft: number | null = null;
  dead = false;
  /** When it was woken last. */
  wokenMs = Number.NEGATIVE_INFINITY;

  constructor(name: string, about: { timeline: Timeline; chance: SeededRandom; wall: Wall }) {
    const { timeline, chance, wall } = about;
    this.name = name;
    this.timeline = timeline;
    this.chance = chance;
    this.#bornMs = timeline.nowMs;
    this.clock = {
      nowMs: () => timeline.nowMs - this.#bornMs,
      wallMs: () => WALL_START_MS + Math.floor(timeline.nowMs) + wall.offsetMs,
      sleep: (ms, signal) => this.#sleep(ms, signal),
      turn: () => new Promise((resolve) => void this.later(0, resolve)),
    };
  }

  /** Unless it is dead by then. */
  later(ms: number, act: () => void): Planned {
    return this.timeline.after(ms, () => this.#now(act));
  }

  /** Called as it dies, with what was under way. */
  whenDead(act: () => void): void {
    this.#whenDead.push(act);
  }

  die(): void {
    if (this.dead) return;
    this.dead = true;
    this.#frozen = null;
    for (const act of this.#whenDead.splice(0)) act();
  }

  /** It stands still until it is woken; then everything that it missed comes at once. */
  freeze(): void {
    this.#frozen ??= [];
  }

  thaw(): void {
    const missed = this.#frozen ?? [];
    this.wokenMs = this.timeline.nowMs;
    this.#frozen = null;
    for (const act of missed) this.later(0, act);
  }

  get frozen(): boolean {
    return this.#frozen !== null;
  }

  /** It dies between two effects, so many from now. */
  dieAtEffect(count: number): void {
    this.#effectsLeft = count;
  }

  /** Before and after each effect: it dies here if this is the one. True where it is dead. */
  dieIfDue(): boolean {
    if (this.#effectsLeft !== null && --this.#effectsLeft <= 0) this.die();
    return this.dead;
  }

  #now(act: () => void): void {
    if (this.dead) return;
    if (this.#frozen) this.#frozen.push(act);
    else act();
  }

  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const give = () => {
        planned.cancel();
        reject(signal?.reason);
      };
      // As Node's timers. Next to nothing, added to a moment, is that moment again: time would stand still.
      const planned = this.later(Math.max(1, ms), () => {
        signal?.removeEventListener("abort", give);
        resolve();
      });
      signal?.addEventListener("abort", give, { once: true });
    });
  }
}

/** What a dead process waits for. */
export function never<T>(): Promise<T> {
  return new Promise(() => {});
}
