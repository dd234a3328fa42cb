/** A device whose event loop never stood still answers a PING within this, on any usable link. */
const LEAST_MS = 1_500;
/** What held it up once may hold it up for longer the next time. */
const MARGIN = 3;
/** Beyond, a stage's deadline is what a round goes by. */
const MOST_MS = 60_000;

/** A run's newest rounds of which it is remembered what held this device up. */
const ROUNDS = 3;

/**
 * How soon this device answers a PING, told to the coordinator so that a round need not wait for one that
 * stands still. Only whole rounds of a run, from vector to vector, show what computing holds it up for: until
 * then it cannot say.
 */
export class Pulse {
  readonly #heldUpMs: (() => number) | undefined;
  #measured: { readonly run: string; round: number; readonly ms: number[] } | null = null;

  /** `heldUpMs`: how long the event loop stood still of late at most; absent: the platform cannot tell. */
  constructor(heldUpMs?: () => number) {
    this.#heldUpMs = heldUpMs;
    // From here on it is measured.
    heldUpMs?.();
  }

  /**
   * Between two of them the device trained, masked and loaded a release: all that blocks its event loop.
   * Another attempt at a round sends what is trained already.
   */
  vectorSent(run: string, round: number): void {
    if (!this.#heldUpMs) return;
    if (this.#measured?.run !== run) this.#measured = { run, round: -1, ms: [] };
    if (this.#measured.round === round) return;
    this.#measured.round = round;
    this.#measured.ms.push(this.#heldUpMs());
    if (this.#measured.ms.length > ROUNDS) this.#measured.ms.shift();
  }

  /** Milliseconds; 0 while this device cannot say. */
  answersWithinMs(run: string): number {
    if (this.#measured?.run !== run || this.#measured.ms.length < 2) return 0;
    const most = Math.max(this.#heldUpMs?.() ?? 0, ...this.#measured.ms);
    const ms = LEAST_MS + MARGIN * most;
    return ms > MOST_MS ? 0 : Math.ceil(ms);
  }
}
