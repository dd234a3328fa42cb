import { asFault, type Fault } from "@tutti/foundation/fault";
import { HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { type Instruction, ListenRequestSchema } from "@tutti/wire/round";
import { delayMs, LONGEST_DELAY_MS, mayPass, type Patience } from "./backoff.ts";
import type { Listener } from "./events.ts";
import type { Link } from "./link.ts";

export type ListenOptions = {
  readonly link: Pick<Link, "hello" | "listen">;
  readonly patience: Patience;
  readonly emit: Listener;
  readonly signal: AbortSignal;
  /** SHA-256 of the newest manifest held, or empty. */
  readonly newest: () => Promise<Uint8Array>;
  readonly hear: (word: Instruction) => void;
};

/**
 * Keeps one Listen stream open until the signal: after a loss it comes back, jittered, 0.2 s to 10 s later,
 * and hears the coordinator's current word again. @throws what waiting cannot mend: revoked, expired,
 * refused.
 */
export async function listen(options: ListenOptions): Promise<void> {
  const { patience, emit, signal } = options;
  const { clock, jitter } = patience;
  for (let attempt = 0; !signal.aborted; attempt++) {
    const sinceMs = clock.nowMs();
    const because = await stream(options);
    if (signal.aborted) return;
    if (because && !mayPass(because) && because.code !== "cancelled") throw because;
    emit({ kind: "state", state: "reconnecting", ...(because && { because }) });
    // A stream that held for a while was no failed attempt.
    if (clock.nowMs() - sinceMs > LONGEST_DELAY_MS) attempt = 0;
    await clock.sleep(delayMs(attempt, jitter), signal).catch(() => {});
  }
}

/** One stream from greeting to end; the Fault that ended it, if one did. */
async function stream({ link, emit, signal, newest, hear }: ListenOptions): Promise<Fault | null> {
  try {
    const request = create(ListenRequestSchema, { newestManifest: await newest() });
    // Greeting first tells that somebody is there: a coordinator with nothing to say sends no word.
    await link.hello(create(HelloRequestSchema), signal);
    emit({ kind: "state", state: "connected" });
    for await (const word of link.listen(request, signal)) hear(word);
    return null;
  } catch (error) {
    return asFault(error);
  }
}
