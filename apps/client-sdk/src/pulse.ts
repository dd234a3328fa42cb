/** A device whose event loop never stood still answers a PING within this, on any usable link. */
const LEAST_MS = 1_500;
/** What held it up once may hold it up for longer the next time. */
const MARGIN = 3;
/** Beyond, a stage's deadline is what a round goes by. */
const MOST_MS = 60_000;

/**
 * How soon this device answers a PING, told to the coordinator so that a round need not wait for one that
 * stands still. Only a whole round of a run, from vector to vector, shows what computing holds it up for:
 * until then it cannot say.
 */
export class Pulse {
  readonly #heldUpMs: (() => number) | undefined;
  #measured: { readonly run: string; vectors: number; ms: number } | null = null;

  /** `heldUpMs`: how long the event loop stood still of late at most; absent: the platform cannot tell. */
  constructor(heldUpMs?: () => number) {
    this.#heldUpMs = heldUpMs;
  }

  /** Between two of them the device trained, masked and loaded a release: all that blocks its event loop. */
  vectorSent(run: string): void {
    if (!this.#heldUpMs) return;
    if (this.#measured?.run !== run) this.#measured = { run, vectors: 0, ms: 0 };
    this.#measured.vectors += 1;
    this.#measured.ms = Math.max(this.#measured.ms, this.#heldUpMs());
  }

  /** Milliseconds; 0 while this device cannot say. */
  answersWithinMs(run: string): number {
    if (this.#measured?.run !== run || this.#measured.vectors < 2) return 0;
    const ms = LEAST_MS + MARGIN * this.#measured.ms;
    return ms > MOST_MS ? 0 : Math.ceil(ms);
  }
}
