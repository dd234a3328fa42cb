import { type Clock, within } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import type { RetryWindow } from "@tutti/wire/device";

export const FIRST_DELAY_MS = 200;
export const LONGEST_DELAY_MS = 10_000;

/** How long things wait: time, and dice of the device's own so that a thousand do not come back at once. */
export type Patience = { readonly clock: Clock; readonly jitter: SeededRandom };

/**
 * The pause before retry `attempt` (from 0): exponential, each jittered over [half, whole) of it. Where the
 * answer says when to come again, it is that long and up to half as long again: not earlier, and not all at
 * once.
 */
export function delayMs(attempt: number, jitter: SeededRandom, because?: Fault | null): number {
  const asked = because?.detail.retryAfterMs;
  // Never at once, whoever asks for it.
  if (asked !== undefined) return Math.max(asked, FIRST_DELAY_MS) * (1 + jitter.uniform() / 2);
  const whole = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(attempt, 10));
  return whole * (0.5 + jitter.uniform() / 2);
}

/** A coordinator that is started again is back within seconds: so often it is looked for so soon. */
const [EARLY_MS, EARLY_ATTEMPTS] = [500, 60];
/** A coordinator that asks devices to stay away for longer has asked them not to come at all. */
const LONGEST_WINDOW_MS = 3_600_000;

/**
 * The pause before coming back to the coordinator: drawn evenly in the window that it told (docs/protocol.md,
 * Pace steering), so that the devices of a federation do not come all at once. While it stays away the window
 * moves to where `delayMs` is, at first no further than EARLY_MS, and is never narrower; without one,
 * `delayMs` it is.
 */
export function returnMs(
  attempt: number,
  { jitter }: Pick<Patience, "jitter">,
  { because, window }: { because?: Fault | null; window?: Pick<RetryWindow, "minMs" | "maxMs"> | undefined },
): number {
  const backOff = delayMs(attempt, jitter, because);
  if (!window) return backOff;
  const maxMs = Math.min(Math.max(window.maxMs, FIRST_DELAY_MS), LONGEST_WINDOW_MS);
  const minMs = Math.min(window.minMs, maxMs);
  const later = Math.max(0, Math.min(backOff, attempt < EARLY_ATTEMPTS ? EARLY_MS : backOff) - maxMs);
  // A refusal that says when to come again counts as well: not earlier, and not all at once.
  const asked = because?.detail.retryAfterMs ?? 0;
  const until = Math.max(maxMs + later, asked * 1.5);
  const from = Math.max(Math.min(minMs + later, Math.max(minMs, until / 2)), asked);
  return from + (until - from) * jitter.uniform();
}

/** `again` resolves with the next reason to try sooner, as that the coordinator is back. */
export type Persistence = Patience & { readonly again?: () => Promise<void> };

/**
 * Calls until it succeeds or fails for a reason that waiting does not mend; an error that is no Fault is a
 * bug, and it shows. For idempotent calls only: one that failed may have been heard. @throws what the last
 * call threw, or the signal's reason.
 */
export async function persist<T>(
  call: (signal: AbortSignal) => Promise<T>,
  { clock, jitter, again }: Persistence,
  signal: AbortSignal,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted();
    // Also one that came while the call was under way.
    const sooner = again?.();
    try {
      return await call(signal);
    } catch (error) {
      if (!(error instanceof Fault && mayPass(error))) throw error;
      const pauseMs = delayMs(attempt, jitter, error);
      // Who says when to come again is not asked earlier.
      if (!sooner || error.detail.retryAfterMs !== undefined) await clock.sleep(pauseMs, signal);
      else await within(sooner, { clock, mostMs: pauseMs, signal });
    }
  }
}

/** Whether the same call may succeed later: the other side is away, or slow. */
export function mayPass({ code }: Fault): boolean {
  return code === "unavailable" || code === "deadline";
}
