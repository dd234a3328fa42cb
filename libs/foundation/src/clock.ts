/**
 * Time as an argument. `nowMs` is monotonic and has no epoch: deadlines use it, so a stepped wall clock
 * cannot end a round. `wallMs` is for what people read: certificates, audit lines.
 */
export type Clock = {
  nowMs(): number;
  wallMs(): number;
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
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
  };
}
