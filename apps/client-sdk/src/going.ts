import { type Clock, within } from "@tutti/foundation/clock";

/** What a device has begun and what has not ended yet, so that closing it can wait for that. */
export class Going {
  readonly #all = new Set<Promise<unknown>>();

  during<T>(job: Promise<T>): Promise<T> {
    const end = () => void this.#all.delete(job);
    this.#all.add(job);
    job.then(end, end);
    return job;
  }

  /** Resolves when all of it has ended, or after `mostMs`: what is the app's may never end. */
  async ended(clock: Clock, mostMs: number): Promise<void> {
    await within(Promise.allSettled(this.#all), { clock, mostMs });
  }
}
