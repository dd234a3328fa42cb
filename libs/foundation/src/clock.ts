/**
 * Time as an argument. `nowMs` is monotonic and has no epoch: deadlines use it, so a stepped wall clock
 * cannot end a round. `wallMs` is for what people read: certificates, audit lines.
 */
export type Clock = {
  nowMs(): number;
  wallMs(): number;
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** One turn of the event loop: what else is ready is done first. No time need pass. */
  turn(): Promise<void>;
};

/**
 * The machine's own time, as apps pass it in. Like platformRandom it is the one place where a library touches
 * the platform: performance, Date and timers are the same in Node and in browsers.
 */
export function systemClock(): Clock {
  return {
    nowMs: () => performance.now(),
    wallMs: () => Date.now(),
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const give = () => {
          clearTimeout(timer);
          reject(signal?.reason);
        };
        const timer = setTimeout(() => {
          signal?.removeEventListener("abort", give);
          resolve();
        }, ms);
        if (signal?.aborted) give();
        else signal?.addEventListener("abort", give, { once: true });
      }),
    turn,
  };
}

export type Within = {
  readonly clock: Pick<Clock, "sleep">;
  readonly mostMs: number;
  readonly signal?: AbortSignal;
};

/** Whether an event comes within so long. @throws what it rejects with, or the signal's reason. */
export async function within(event: Promise<unknown>, { clock, mostMs, signal }: Within): Promise<boolean> {
  const over = new AbortController();
  const ends = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
  const late = clock.sleep(mostMs, ends).then(() => false);
  return await Promise.race([event.then(() => true), late]).finally(() => over.abort());
}

/**
 * Of Node setImmediate, after input and output; of a browser a message to oneself, since nested timeouts wait
 * at least 4 ms there (HTML, section 8.7).
 */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { setImmediate } = globalThis as { setImmediate?: (act: () => void) => void };
    if (setImmediate) return void setImmediate(resolve);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
