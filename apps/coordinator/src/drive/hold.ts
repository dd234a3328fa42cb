import type { Clock } from "@tutti/foundation/clock";
import { awaitedHere, type Round } from "@tutti/round/round";

/**
 * Holds a transaction back while its round waits for other devices anyway: one of ten entries costs the disk
 * what one of one does, and nobody goes on before the last device was heard. Entries of the coordinator's
 * own, whose device is "", are never held.
 */
export class Hold {
  readonly #clock: Clock;
  readonly #mostMs: number;
  #missing: Set<string> | null = null;
  #end = new AbortController();

  /** `mostMs`: how much later an acknowledgement may come for it; 0 holds nothing. */
  constructor(clock: Clock, mostMs: number) {
    this.#clock = clock;
    this.#mostMs = mostMs;
  }

  /** Resolves once everybody awaited is heard, `mostMs` have passed, or it is ended; `heard` wait already. */
  async whileAwaiting(round: Round | null, heard: readonly string[]): Promise<void> {
    if (this.#mostMs === 0 || round === null || heard.includes("")) return;
    const missing = new Set(awaitedHere(round));
    for (const device of heard) missing.delete(device);
    if (missing.size === 0) return;
    this.#missing = missing;
    this.#end = new AbortController();
    await this.#clock.sleep(this.#mostMs, this.#end.signal).catch(() => {});
    this.#missing = null;
  }

  /** Another entry waits now. */
  heard(device: string): void {
    this.#missing?.delete(device);
    if (device === "" || this.#missing?.size === 0) this.end();
  }

  end(): void {
    this.#end.abort();
  }
}
