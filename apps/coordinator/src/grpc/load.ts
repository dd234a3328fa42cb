import { totalmem } from "node:os";
import { Fault } from "@tutti/foundation/fault";
import type { Caller } from "@tutti/wire/rpc";
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
const CAN_WAIT = new Set("Hello Enroll Renew Listen CheckIn Fetch Report Put Watch".split(" "));
/** Calls that last for as long as a device is there, and do nothing most of that time. */
const LISTENING = new Set(["Listen", "Watch"]);

/**
 * The messages of a round in progress: never turned away because of what others do. Each device has few calls
 * at once, so they need no number of their own.
 */
const OF_ROUND = new Set("Ready Decline Advertise Pick Share Upload UploadStatus Attest Reveal".split(" "));
/** Calls at once of one device, over all its connections. */
export const CALLS_PER_DEVICE = 32;
/** Calls at once over a connection over which nobody signed a request: what greets, and what comes first. */
export const CALLS_PER_NEWCOMER = 4;
/** Of all such connections together; who says nothing gives way to who may. */
const NEWCOMERS_CALLS = 1_000;

/** One call, as the door sees it. */
export type Entering = { readonly method: string; readonly session: object; cut(): void };

/** A call in progress. */
type Running = { readonly counts: boolean; readonly cut: () => void };
/** A connection: whose it is, null while nobody signed over it, and its calls. */
type Peer = { owner: string | null; readonly calls: Set<Running> };

export type LoadOptions = Pick<Limits, "calls" | "memoryBytes"> & {
  /** Whether this process leads, so that who is turned away should come again here. Default: it does. */
  readonly leads?: () => boolean;
};

/** Who is turned away while there is too much to do, and for how long. */
export class Load {
  readonly #limits: Pick<Limits, "calls" | "memoryBytes">;
  readonly #leads: () => boolean;
  readonly #peers = new WeakMap<object, Peer>();
  /** Calls of connections over which nobody signed yet, oldest first. */
  readonly #unsigned = new Set<Running>();
  readonly #ofDevice = new Map<string, number>();
  #signed = 0;
  #lateLooks = 0;
  #fullLooks = 0;

  constructor({ calls, memoryBytes, leads = () => true }: LoadOptions) {
    this.#limits = { calls, memoryBytes: memoryBytes || ownShare() };
    this.#leads = leads;
  }

  /** Those that do not listen, and all of newcomers. */
  get calls(): number {
    return this.#signed + this.#unsigned.size;
  }

  look({ lateMs, residentBytes }: Sample): void {
    this.#lateLooks = lateMs >= LATE_MS ? this.#lateLooks + 1 : 0;
    this.#fullLooks = residentBytes >= this.#limits.memoryBytes ? this.#fullLooks + 1 : 0;
  }

  /** A call begins, until it is told that it is over. @throws Fault("unavailable"); a leader's says when. */
  enter({ method, session, cut }: Entering): () => void {
    const peer = this.#peerOf(session);
    this.#mayEnter(method, peer);
    const running = { counts: !LISTENING.has(method), cut };
    peer.calls.add(running);
    if (peer.owner === null) this.#unsigned.add(running);
    else this.#count(peer.owner, running, 1);
    return () => {
      if (!peer.calls.delete(running)) return;
      if (!this.#unsigned.delete(running) && peer.owner !== null) this.#count(peer.owner, running, -1);
    };
  }

  /** A request over this connection was signed: from now on its calls are those of who signed. */
  known(session: object, { name, role }: Pick<Caller, "name" | "role">): void {
    const peer = this.#peerOf(session);
    if (peer.owner !== null) return;
    peer.owner = role === "device" ? name : "";
    for (const running of peer.calls) {
      this.#unsigned.delete(running);
      this.#count(peer.owner, running, 1);
    }
  }

  /** Whether a connection has a call in progress that does not only listen. */
  isBusy(session: object): boolean {
    return [...this.#peerOf(session).calls].some(({ counts }) => counts);
  }

  #mayEnter(method: string, { owner, calls }: Peer): void {
    if (owner === null) {
      if (calls.size >= CALLS_PER_NEWCOMER) throw this.#busy("a signed request first", FIRST_RETRY_MS);
    } else if ((this.#ofDevice.get(owner) ?? 0) >= CALLS_PER_DEVICE)
      throw this.#busy("fewer calls of one device", FIRST_RETRY_MS);
    else if (!OF_ROUND.has(method) && !LISTENING.has(method) && this.#signed >= this.#limits.calls)
      throw this.#busy("fewer calls at once", FIRST_RETRY_MS);
    this.#mayWait(method);
    if (owner === null && this.#unsigned.size >= NEWCOMERS_CALLS) this.#evict();
  }

  #evict(): void {
    const [oldest] = this.#unsigned;
    if (!oldest) return;
    this.#unsigned.delete(oldest);
    oldest.cut();
  }

  /** An owner's tools ("") have no number of their own. */
  #count(owner: string, { counts }: Running, by: 1 | -1): void {
    if (counts) this.#signed += by;
    if (owner === "") return;
    const own = (this.#ofDevice.get(owner) ?? 0) + by;
    if (own > 0) this.#ofDevice.set(owner, own);
    else this.#ofDevice.delete(owner);
  }

  #peerOf(session: object): Peer {
    const known = this.#peers.get(session);
    if (known) return known;
    const peer: Peer = { owner: null, calls: new Set() };
    this.#peers.set(session, peer);
    return peer;
  }

  #mayWait(method: string): void {
    if (!CAN_WAIT.has(method)) return;
    if (this.#lateLooks >= LATE_LOOKS) throw this.#busy("less to do", retryMs(this.#lateLooks));
    if (this.#fullLooks > 0) throw this.#busy("free memory", retryMs(this.#fullLooks));
  }

  /** A time to come again is to come here, and to ask no other (ring.ts). */
  #busy(expected: string, retryAfterMs: number): Fault {
    const got = "too much at once";
    return new Fault("unavailable", "coordinator", { expected, got, ...(this.#leads() && { retryAfterMs }) });
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

/** Of the machine's memory, or of the container's where that is less. */
function ownShare(): number {
  const constrained = process.constrainedMemory?.() ?? 0;
  return 0.8 * Math.min(totalmem(), constrained || Number.POSITIVE_INFINITY);
}
