import { asFault, type Fault } from "@tutti/foundation/fault";
import { HelloRequestSchema, type Notice } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { type Instruction, ListenRequestSchema } from "@tutti/wire/round";
import { delayMs, mayPass, type Patience } from "./backoff.ts";
import type { Listener } from "./events.ts";
import type { Link } from "./link.ts";

type ListenOptions = {
  readonly link: Pick<Link, "hello" | "listen">;
  readonly patience: Patience;
  readonly emit: Listener;
  readonly signal: AbortSignal;
  readonly hear: (word: Instruction) => void;
  /** Told of what a coordinator has to fetch. */
  readonly greeted?: (notice: Notice | undefined) => void;
  /** How long to wait for what mends a refusal; null where nothing does. */
  readonly mends?: (because: Fault) => Promise<number | null>;
};

/**
 * Keeps one Listen stream open until the signal: after a loss it comes back, jittered, 0.2 s to 10 s later,
 * and hears the coordinator's current word again. @throws what waiting cannot mend: revoked, expired,
 * refused.
 */
export async function listen(options: ListenOptions): Promise<void> {
  const { patience, emit, signal } = options;
  const { clock, jitter } = patience;
  let waitedMs = 0;
  for (let attempt = 0; !signal.aborted; attempt++) {
    const { because, heldMs } = await stream(options);
    if (signal.aborted) return;
    const passes = !because || mayPass(because) || because.code === "cancelled";
    const mendedMs = passes ? null : ((await options.mends?.(because)) ?? null);
    if (!passes && mendedMs === null) throw because;
    emit({ kind: "state", state: "reconnecting", ...(because && { because }) });
    // A stream that held for longer than it was waited for was no failed attempt: a coordinator killed now
    // and then is found again at once; one that takes calls only to drop them is asked ever less often.
    if (heldMs > waitedMs) attempt = 0;
    waitedMs = Math.max(delayMs(attempt, jitter, because), mendedMs ?? 0);
    await clock.sleep(waitedMs, signal).catch(() => {});
  }
}

/** One stream: the Fault that ended it, if one did, and how long it held once greeted. */
async function stream({
  link,
  patience,
  emit,
  signal,
  hear,
  greeted,
}: ListenOptions): Promise<{ because: Fault | null; heldMs: number }> {
  const nowMs = () => patience.clock.nowMs();
  let greetedMs = Number.POSITIVE_INFINITY;
  const held = () => Math.max(0, nowMs() - greetedMs);
  try {
    // Greeting first tells that somebody is there: a coordinator with nothing to say sends no word.
    const { notice } = await link.hello(create(HelloRequestSchema), signal);
    greetedMs = nowMs();
    greeted?.(notice);
    emit({ kind: "state", state: "connected" });
    for await (const word of link.listen(create(ListenRequestSchema), signal)) hear(word);
    return { because: null, heldMs: held() };
  } catch (error) {
    return { because: asFault(error), heldMs: held() };
  }
}
