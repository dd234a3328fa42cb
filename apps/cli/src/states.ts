import type { DeviceEvent } from "@tutti/client-sdk/events";
import type { Clock } from "@tutti/foundation/clock";

/** How long a reason is not said again, and how many are known at once. */
const AGAIN_MS = 300_000;
const MAX_REASONS = 16;

type State = Extract<DeviceEvent, { kind: "state" }>;

/**
 * What a site's operator sees of its connection. A device that looks for its coordinator tells of every
 * attempt, about once a second: a reason is said once, and again with how often it came after AGAIN_MS, until
 * the device is back.
 */
export class States {
  readonly #clock: Clock;
  readonly #said = new Map<string, { sinceMs: number; count: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Null for what was said not long ago. */
  lineOf({ state, because }: State): string | null {
    const line = because ? `${state}: ${because.message}` : state;
    if (state === "connected") this.#said.clear();
    if (state === "connected") return line;
    const sinceMs = this.#clock.nowMs();
    // How long a call had waited is part of some reasons, and makes no other of them.
    const key = line.replace(/\d+/g, "0");
    const before = this.#said.get(key);
    if (before && sinceMs - before.sinceMs < AGAIN_MS) {
      before.count += 1;
      return null;
    }
    if (this.#said.size >= MAX_REASONS) this.#said.clear();
    this.#said.set(key, { sinceMs, count: 0 });
    return before ? `${line} (${before.count + 1} more times)` : line;
  }
}
