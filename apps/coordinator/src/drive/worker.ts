import type { Clock } from "@tutti/foundation/clock";
import type { Round } from "@tutti/round/round";
import { Hold } from "./hold.ts";
import type { Waiting } from "./waiting.ts";

type WorkerOptions = {
  readonly clock: Clock;
  /** How much later an acknowledgement may come so that more entries share a transaction. */
  readonly holdMs: number;
  /** As of the last commit. */
  readonly round: () => Round | null;
  /** Takes entries in one transaction. */
  readonly commit: (waiting: readonly Waiting[]) => Promise<void>;
  /** Nothing is left to do, in the same turn as that was seen. */
  readonly onIdle: () => void;
  readonly onBug: (bug: unknown) => void;
};

/** A run's work, one thing at a time: entries, all that wait together, and jobs between two transactions. */
export class Worker {
  readonly #options: WorkerOptions;
  readonly #hold: Hold;
  #queue: Waiting[] = [];
  readonly #jobs: (() => Promise<void>)[] = [];
  #working: Promise<void> = Promise.resolve();
  #busy = false;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#hold = new Hold(options.clock, options.holdMs);
  }

  submit(waiting: Waiting): void {
    this.#queue.push(waiting);
    this.#hold.heard(waiting.device);
    this.#wake();
  }

  /** Before all that wait. */
  submitFirst(waiting: Waiting): void {
    this.#queue.unshift(waiting);
    this.#wake();
  }

  /** Does a job between two commits, so that no entry falls between a round and its successor. */
  exclusively<T>(job: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => this.between(() => job().then(resolve, reject)));
  }

  /** The same, of a job that nobody waits for. */
  between(job: () => Promise<void>): void {
    this.#jobs.push(job);
    this.#wake();
  }

  /** Entries that are not written: the caller settles them. */
  takeBack(): Waiting[] {
    return this.#queue.splice(0);
  }

  /** Holds nothing back any more; resolves when all is done that waits. */
  async finish(): Promise<void> {
    this.#hold.end();
    await this.#working;
  }

  #wake(): void {
    if (this.#jobs.length > 0) this.#hold.end();
    if (this.#busy) return;
    this.#busy = true;
    this.#working = this.#work();
  }

  async #work(): Promise<void> {
    const { clock, round, commit, onBug, onIdle } = this.#options;
    // One turn of the event loop, so that messages read together are written together.
    await clock.turn();
    while (this.#queue.length > 0 || this.#jobs.length > 0) {
      const job = this.#jobs.shift();
      const heard = this.#queue.map(({ device }) => device);
      if (!job) await this.#hold.whileAwaiting(round(), heard);
      try {
        await (job ? job() : commit(this.takeBack()));
      } catch (bug) {
        // Whatever it was, the next entry must find a worker.
        onBug(bug);
      }
    }
    // In the same turn as the last look at the queue: what comes from now on wakes the worker again.
    this.#busy = false;
    onIdle();
  }
}
