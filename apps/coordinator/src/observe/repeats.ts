import type { Clock } from "@tutti/foundation/clock";

const WINDOW_MS = 60_000;
const LINES_PER_WINDOW = 10;
/** Different lines that are counted at once; what is beyond them passes. */
const MAX_KEYS = 256;
const MAX_KEY_CHARS = 200;

type Window = { readonly event: string; readonly since: number; lines: number; left: number };

/** Which lines came too often: a failing disk must not fill it. */
export class Repeats {
  readonly #clock: Clock;
  readonly #windows = new Map<string, Window>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  mayPass(event: string, about: string): boolean {
    const key = `${event} ${about}`.slice(0, MAX_KEY_CHARS);
    const window = this.#windows.get(key);
    if (!window) {
      if (this.#windows.size < MAX_KEYS)
        this.#windows.set(key, { event, since: this.#clock.nowMs(), lines: 1, left: 0 });
      return true;
    }
    window.lines += 1;
    if (window.lines <= LINES_PER_WINDOW) return true;
    window.left += 1;
    return false;
  }

  /** Forgets the windows that are over; those that left something out are told, once. */
  over(): { of: string; count: number }[] {
    const now = this.#clock.nowMs();
    const told: { of: string; count: number }[] = [];
    for (const [key, { event, since, left }] of this.#windows) {
      // In the order they began.
      if (now - since < WINDOW_MS) break;
      this.#windows.delete(key);
      if (left > 0) told.push({ of: event, count: left });
    }
    return told;
  }
}
