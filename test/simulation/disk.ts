import { Fault } from "@tutti/foundation/fault";
import { type Life, never } from "./life.ts";

/** What becomes of one operation: it fails and nothing happened, or it happened and its caller hears "no". */
export type Fate = "fine" | "failed" | "unknown";

export type DiskWeather = {
  /** Asked once for each operation. */
  fate(what: string): Fate;
  /** How long until it is durable, and how long from then until its caller hears of it. */
  latencyMs(): number;
};

type Write = { readonly what: string; apply: (() => void) | null };

/**
 * One process's way to what outlives it. A write is durable some time after it was asked for and before its
 * caller hears so; writes become durable in their order. When the process dies, of those under way some are
 * durable, from the first on, and the others never are.
 */
export class Disk {
  readonly #life: Life;
  readonly #weather: DiskWeather;
  readonly #under: Write[] = [];
  #lastMs = 0;

  constructor(life: Life, weather: DiskWeather) {
    this.#life = life;
    this.#weather = weather;
    life.whenDead(() => this.#settle());
  }

  async write<T>(what: string, apply: () => T | Promise<T>): Promise<T> {
    const { timeline } = this.#life;
    if (this.#life.dieIfDue()) return never();
    const fate = this.#weather.fate(what);
    await this.#wait();
    if (fate === "failed") throw broken(what);
    const settled = new Promise<T>((resolve, reject) => {
      const write: Write = {
        what,
        apply: () => {
          write.apply = null;
          try {
            resolve(apply());
          } catch (error) {
            reject(error);
          }
        },
      };
      this.#under.push(write);
      this.#lastMs = Math.max(this.#lastMs, timeline.nowMs + this.#weather.latencyMs());
      this.#life.later(this.#lastMs - timeline.nowMs, () => this.#flush(write));
    });
    const result = await settled;
    if (this.#life.dieIfDue()) return never();
    await this.#wait();
    if (fate === "unknown") throw broken(what);
    return result;
  }

  async read<T>(what: string, get: () => T | Promise<T>): Promise<T> {
    if (this.#life.dieIfDue()) return never();
    const fate = this.#weather.fate(what);
    await this.#wait();
    if (fate !== "fine") throw broken(what);
    return get();
  }

  /** Of writes that its caller does not wait for: durable at once, unless it fails. */
  writeNow(what: string, apply: () => void): void {
    const fate = this.#weather.fate(what);
    if (fate === "failed") throw broken(what);
    apply();
    if (fate === "unknown") throw broken(what);
  }

  #wait(): Promise<void> {
    return this.#life.clock.sleep(this.#weather.latencyMs());
  }

  /** Everything up to and with this one. */
  #flush(last: Write): void {
    while (this.#under.length > 0) {
      const write = this.#under.shift()!;
      write.apply?.();
      if (write === last) return;
    }
  }

  #settle(): void {
    for (const { apply } of this.#under.splice(0)) {
      if (this.#life.chance.uniform() < 0.5) return;
      apply?.();
    }
  }
}

function broken(what: string): Fault {
  return new Fault("storage", what, { got: "EIO" });
}
