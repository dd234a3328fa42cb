import { availableParallelism } from "node:os";
import { Fault } from "@tutti/foundation/fault";
import { queue } from "@tutti/foundation/queue";
import { addInto } from "@tutti/kernels/ring";
import { type Lift, liftMasks, streamsOf } from "@tutti/secagg/server/lift";
import { nativeAgree } from "../native.ts";
import { piecesOf } from "./pieces.ts";
import { Thread } from "./worker.ts";

export type LiftPoolOptions = {
  /** Worker threads; as many as cores by default. */
  readonly threads?: number;
  /** Words of mask streams up to which an unmasking stays on the thread that asks. */
  readonly inlineWords?: number;
  /** How long threads without work are kept. */
  readonly idleMs?: number;
  readonly startThread?: () => Thread;
};

/**
 * A thread loads for a third of a second of processor time; the kernel takes twice that for so many words, so
 * that from here on two threads gain more than they cost.
 */
const INLINE_WORDS = 2 ** 28;
const IDLE_MS = 30_000;
/** Words of all threads' vectors together, 1 GiB: longer ones get fewer threads. */
const MOST_WORDS = 2 ** 28;

/**
 * Takes masks off sums on worker threads. They start with the first sum that is worth it, end after a while
 * without work, and never hold the process open by themselves. One unmasking at a time; others wait.
 */
export class LiftPool {
  readonly #options: Required<LiftPoolOptions>;
  #threads: Thread[] = [];
  readonly #inTurn = queue();
  #idle: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: LiftPoolOptions = {}) {
    this.#options = {
      threads: Math.max(1, availableParallelism()),
      inlineWords: INLINE_WORDS,
      idleMs: IDLE_MS,
      startThread: () => new Thread(),
      ...options,
    };
  }

  /**
   * Takes the masks of all lifts off `sum`, in place, mod 2^32. After a failure `sum` means nothing.
   * @throws Fault: "unavailable" when a thread dies: trying again starts others; "cancelled" when the pool is
   * closed; what `liftMasks` throws.
   */
  readonly lift = async (sum: Uint32Array, lifts: readonly Lift[]): Promise<void> => {
    const words = sum.length * lifts.reduce((total, lift) => total + streamsOf(lift), 0);
    if (words <= this.#options.inlineWords)
      return liftMasks(sum, lifts, { agree: nativeAgree, pause: nextTurn });
    return this.#inTurn(() => this.#onThreads(sum, lifts));
  };

  /** Ends the threads; an unmasking in progress fails. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#dismiss(closed());
  }

  async #onThreads(sum: Uint32Array, lifts: readonly Lift[]): Promise<void> {
    if (this.#closed) throw closed();
    clearTimeout(this.#idle);
    const threads = this.#hire(sum.length);
    const pieces = piecesOf(lifts, { threads: threads.length, length: sum.length });
    try {
      await Promise.all(threads.map(async (thread) => addInto(sum, await thread.run(pieces, sum.length))));
    } catch (cause) {
      // The others' partial sums are worth nothing now, and their pieces hold secrets.
      await this.#dismiss(new Fault("cancelled", "unmasking thread", { got: "another's failure" }));
      throw cause;
    }
    this.#idle = setTimeout(() => void this.#dismiss(closed()), this.#options.idleMs).unref();
  }

  #hire(length: number): Thread[] {
    const count = Math.max(1, Math.min(this.#options.threads, Math.floor(MOST_WORDS / length)));
    this.#threads = this.#threads.filter((thread) => !thread.dead);
    while (this.#threads.length < count) this.#threads.push(this.#options.startThread());
    return this.#threads.slice(0, count);
  }

  async #dismiss(fault: Fault): Promise<void> {
    clearTimeout(this.#idle);
    const threads = this.#threads.splice(0);
    await Promise.all(threads.map((thread) => thread.end(fault)));
  }
}

function closed(): Fault {
  return new Fault("cancelled", "unmasking", { got: "a coordinator that is shutting down" });
}

/** A long unmasking stops nothing else. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
