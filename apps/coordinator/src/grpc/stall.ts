import { assert } from "@tutti/foundation/check";

/** Something we wait for from another party; stop it when it came. */
export type Watch = { stop(): void };

const LOOK_MS = 5_000;
export const MIN_BYTES_PER_S = 1024;
/** Looks in a row below the rate before the party is given up. */
const SLOW_LOOKS = 2;
/** The longest that a party which moves nothing is waited for. */
export const STALL_MS = LOOK_MS * (SLOW_LOOKS + 1);
// docs/reliability.md, Connections: cut within 15 s, or below 1 KB/s for 10 s. A wait may begin just after a
// look.
assert(LOOK_MS * SLOW_LOOKS >= 10_000 && STALL_MS <= 15_000, "stalls are cut in 10..15 s");

/**
 * Gives a party up when the bytes that went over its connection fall below the rate. Counting the connection
 * and not messages spares a slow link on which one message takes a minute.
 */
export function watchStall(bytesSoFar: () => number, onStall: () => void): Watch {
  let last = bytesSoFar();
  let slow = 0;
  const timer = setInterval(() => {
    const now = bytesSoFar();
    slow = now - last < (MIN_BYTES_PER_S * LOOK_MS) / 1000 ? slow + 1 : 0;
    last = now;
    if (slow < SLOW_LOOKS) return;
    clearInterval(timer);
    onStall();
  }, LOOK_MS);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}
