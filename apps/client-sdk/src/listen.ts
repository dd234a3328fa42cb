import { equalBytes } from "@tutti/foundation/bytes";
import { asFault, type Fault } from "@tutti/foundation/fault";
import { type DeviceState, HelloRequestSchema, type Notice, type RetryWindow } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import {
  CheckInRequestSchema,
  type Instruction,
  InstructionSchema,
  ListenRequestSchema,
} from "@tutti/wire/round";
import { mustUnderstand, VERSION } from "@tutti/wire/version";
import { mayPass, type Patience, returnMs } from "./backoff.ts";
import type { Listener } from "./events.ts";
import type { Link } from "./link.ts";

type ListenOptions = {
  readonly link: Pick<Link, "hello" | "listen" | "checkIn">;
  /** Where no stream can live: asks now and then instead. */
  readonly asks?: boolean;
  readonly patience: Patience;
  readonly emit: Listener;
  readonly signal: AbortSignal;
  /** The stream is not read on until it resolves. */
  readonly hear: (word: Instruction) => void | Promise<void>;
  /** A stream begins, or begins again; with what the coordinator has to fetch. */
  readonly greeted?: (notice: Notice | undefined) => void;
  /** How long to wait for what mends a refusal; null where nothing does. */
  readonly mends?: (because: Fault) => Promise<number | null>;
  /** What the device says of itself, each time. */
  readonly state?: () => Promise<DeviceState>;
};

/** From one stream to the next: when the coordinator wants to see this device again, and what for. */
type Told = { window?: RetryWindow | undefined; isInRound?: boolean };

/** A round waits for its devices: they come back this soon, however many others are told to take longer. */
const SOON_MS = 2_000;
const ENDS_ROUND: ReadonlySet<string | undefined> = new Set(["idle", "excused", "published", "runOver"]);

/**
 * Keeps one Listen stream open until the signal: after a loss it comes back, within the window that the
 * coordinator told it, else jittered, 0.2 s to 10 s later, and hears the coordinator's current words anew.
 * @throws what waiting cannot mend: revoked, expired, refused.
 */
export async function listen(options: ListenOptions): Promise<void> {
  const { patience, emit, signal } = options;
  const { clock } = patience;
  const told: Told = {};
  let waitedMs = 0;
  for (let attempt = 0; !signal.aborted; attempt++) {
    const { because, heldMs } = await stream(options, told);
    if (signal.aborted) return;
    const passes = !because || mayPass(because) || because.code === "cancelled";
    const mendedMs = passes ? null : ((await options.mends?.(because)) ?? null);
    if (!passes && mendedMs === null) throw because;
    emit({ kind: "state", state: "reconnecting", ...(because && { because }) });
    // A stream that held for longer than it was waited for was no failed attempt: a coordinator killed now
    // and then is found again at once; one that takes calls only to drop them is asked ever less often.
    if (heldMs > waitedMs) attempt = 0;
    waitedMs = Math.max(returnMs(attempt, patience, { because, window: windowOf(told) }), mendedMs ?? 0);
    await clock.sleep(waitedMs, signal).catch(() => {});
  }
}

function windowOf({ window, isInRound }: Told): Pick<RetryWindow, "minMs" | "maxMs"> | undefined {
  if (!window || !isInRound) return window;
  return { minMs: Math.min(window.minMs, SOON_MS / 2), maxMs: Math.min(window.maxMs, SOON_MS) };
}

/** One stream: the Fault that ended it, if one did, and how long it held once greeted. */
async function stream(
  options: ListenOptions,
  told: Told,
): Promise<{ because: Fault | null; heldMs: number }> {
  const { link, patience, emit, signal, hear, greeted, state } = options;
  const nowMs = () => patience.clock.nowMs();
  let greetedMs = Number.POSITIVE_INFINITY;
  const held = () => Math.max(0, nowMs() - greetedMs);
  try {
    // Greeting first tells that somebody is there: a coordinator with nothing to say sends no word.
    const { version, notice, retry } = await link.hello(
      create(HelloRequestSchema, { version: VERSION }),
      signal,
    );
    mustUnderstand("the coordinator", version);
    told.window = retry;
    greetedMs = nowMs();
    const request = create(ListenRequestSchema, state ? { state: await state() } : {});
    greeted?.(notice);
    emit({ kind: "state", state: "connected" });
    const words = options.asks ? asking(options) : link.listen(request, signal);
    for await (const word of words) {
      if (word.word.case === "idle") {
        told.window = word.word.value.retry ?? told.window;
        emit({ kind: "idle", because: word.word.value.because.slice(0, MAX_BECAUSE) });
      }
      told.isInRound = !ENDS_ROUND.has(word.word.case);
      await hear(word);
    }
    return { because: null, heldMs: held() };
  } catch (error) {
    return { because: asFault(error), heldMs: held() };
  }
}

const MAX_BECAUSE = 200;
/** However often a coordinator wants to be asked, and however seldom. */
const [SHORTEST_ASK_MS, LONGEST_ASK_MS] = [100, 3_600_000];

/**
 * The same words without a stream: asked for, again within the window that each reply tells. A word that is
 * said again is heard once: it is what the device answers already.
 */
async function* asking({ link, patience, signal, state }: ListenOptions): AsyncGenerator<Instruction> {
  const { clock, jitter } = patience;
  let last: Uint8Array = new Uint8Array();
  while (!signal.aborted) {
    const request = create(CheckInRequestSchema, state ? { state: await state() } : {});
    const { instruction, retry } = await link.checkIn(request, signal);
    if (instruction) {
      const bytes = encode(InstructionSchema, instruction);
      const idles = instruction.word.case === "idle" && last.length === 0;
      if (idles || (instruction.word.case !== "idle" && !equalBytes(bytes, last))) yield instruction;
      last = bytes;
    }
    const { minMs = 2_000, maxMs = 3_000 } = retry ?? {};
    const askMs = minMs + Math.max(0, maxMs - minMs) * jitter.uniform();
    await clock.sleep(Math.min(Math.max(askMs, SHORTEST_ASK_MS), LONGEST_ASK_MS), signal);
  }
}
