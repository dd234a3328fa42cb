import { setTimeout as sleep } from "node:timers/promises";
import type { CoordinatorSaid } from "./coordinator.ts";
import type { House } from "./house.ts";

/** One life of a coordinator after another one's end: milliseconds from the start of its process. */
export type Life = {
  /** Until it serves; NaN where it ended before. */
  readonly servingMs: number;
  /** Until something that a device said, or the end of a round, was durable again; NaN where nothing was. */
  readonly resumedMs: number;
  /** What ended the life before: a signal, or "code 0". */
  readonly ended: string;
};

/** RestartSec of deploy/systemd/tutti-coordinator.service. */
const RESTART_MS = 1_000;

/**
 * Starts a coordinator again whenever it ends, when systemd would; remembers how that went. Times count from
 * its death.
 */
export class Lives {
  readonly all: Life[] = [];
  readonly #house: House;
  /** For the next lives' environments, in order. */
  readonly #next: Record<string, string>[] = [];
  #over = false;
  readonly #done: Promise<void>;

  constructor(house: House, onDeath: () => Promise<void>) {
    this.#house = house;
    this.#done = this.#watch(onDeath);
  }

  /** What the next life is to be armed with from its start. */
  next(environment: Record<string, string>): void {
    this.#next.push(environment);
  }

  /** Ends the watch, not the coordinator. */
  async end(): Promise<void> {
    this.#over = true;
    await Promise.race([this.#done, new Promise((resolve) => setTimeout(resolve, 10))]);
  }

  async #watch(onDeath: () => Promise<void>): Promise<void> {
    while (!this.#over) {
      const { code, signal } = await this.#house.coordinator.ended;
      if (this.#over) return;
      const sinceMs = performance.now();
      await onDeath();
      await sleep(Math.max(0, RESTART_MS - (performance.now() - sinceMs)));
      const life = { servingMs: Number.NaN, resumedMs: Number.NaN, ended: signal ?? `code ${code}` };
      this.all.push(life);
      this.#house.onCoordinator = (said) => {
        if (Number.isNaN(life.resumedMs) && isWork(said)) life.resumedMs = performance.now() - sinceMs;
      };
      if ((await this.#house.serve(this.#next.shift() ?? {})) === "serving")
        life.servingMs = performance.now() - sinceMs;
    }
  }
}

/** What a coordinator writes down by itself when it comes back does not count. */
const OWN = new Set(["recovered", "connected", "disconnected", "tick"]);

function isWork(said: CoordinatorSaid): boolean {
  return said.kind === "committed" && (said.closed || said.events.some((event) => !OWN.has(event)));
}
