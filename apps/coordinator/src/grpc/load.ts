import { totalmem } from "node:os";
import { Fault } from "@tutti/foundation/fault";
import type { Limits } from "./limits.ts";

/** How busy this process is, as measured every LOOK_MS. */
export type Sample = { readonly lateMs: number; readonly residentBytes: number };

const LOOK_MS = 250;
/** The event loop this late, look after look, is not a pause of the garbage collector. */
const LATE_MS = 500;
const LATE_LOOKS = 4;
/** Devices are sent away for this long at first, and for twice as long after each further second of it. */
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

/** Calls that lose nothing by waiting. The messages of a round in progress are what frees this process. */
const CAN_WAIT = new Set(["Hello", "Enroll", "Listen", "CheckIn", "Fetch", "Report", "Put", "Watch"]);
/** Calls that last for as long as a device is there, and do nothing most of that time. */
const LISTENING = new Set(["Listen", "Watch"]);

/** Who is turned away while there is too much to do, and for how long. */
export class Load {
  readonly #limits: Pick<Limits, "calls" | "memoryBytes">;
  #calls = 0;
  #lateLooks = 0;
  #fullLooks = 0;

  constructor({ calls, memoryBytes }: Pick<Limits, "calls" | "memoryBytes">) {
    this.#limits = { calls, memoryBytes: memoryBytes || ownShare() };
  }

  get calls(): number {
    return this.#calls;
  }

  look({ lateMs, residentBytes }: Sample): void {
    this.#lateLooks = lateMs >= LATE_MS ? this.#lateLooks + 1 : 0;
    this.#fullLooks = residentBytes >= this.#limits.memoryBytes ? this.#fullLooks + 1 : 0;
  }

  /** A call begins, until it is told that the call is over. @throws Fault("unavailable") saying when. */
  enter(method: string): () => void {
    if (LISTENING.has(method)) {
      this.#mayWait(method);
      return () => {};
    }
    if (this.#calls >= this.#limits.calls) throw busy("fewer calls at once", FIRST_RETRY_MS);
    this.#mayWait(method);
    this.#calls += 1;
    let over = false;
    return () => {
      if (!over) this.#calls -= 1;
      over = true;
    };
  }

  #mayWait(method: string): void {
    if (!CAN_WAIT.has(method)) return;
    if (this.#lateLooks >= LATE_LOOKS) throw busy("less to do", retryMs(this.#lateLooks));
    if (this.#fullLooks > 0) throw busy("free memory", retryMs(this.#fullLooks));
  }
}

/** Measures this process for a Load; returns its end. */
export function watchLoad(load: Load): () => void {
  let dueMs = performance.now() + LOOK_MS;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    load.look({ lateMs: nowMs - dueMs, residentBytes: process.memoryUsage.rss() });
    dueMs = nowMs + LOOK_MS;
  }, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}

function retryMs(looks: number): number {
  return Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** ((looks * LOOK_MS) / 1000));
}

function busy(expected: string, retryAfterMs: number): Fault {
  return new Fault("unavailable", "coordinator", { expected, got: "too much at once", retryAfterMs });
}

/** Of the machine's memory, or of the container's where that is less. */
function ownShare(): number {
  const constrained = process.constrainedMemory?.() ?? 0;
  return 0.8 * Math.min(totalmem(), constrained || Number.POSITIVE_INFINITY);
}
