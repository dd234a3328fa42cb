/** How often liveness.ts looks. */
export const LOOK_MS = 250;

/** What a link is taken for until it was measured; slower ones are not told from those that are cut. */
const SLOW_BYTES_PER_S = 8 << 10;
/** As much as HTTP/2 lets a device's connection have under way. */
const MOST_UNDER_WAY = 64 << 10;
/** Fewer bytes that arrive at once say how much there was to send, not what the link can carry. */
export const MEASURED_BYTES = 3 << 10;
/** A link counts as the slowest of so many measurements: what it can do goes up and down. */
const MEASURED = 3;
/** And may be slower still the next time. */
const MARGIN = 2;
/** Less than this needs no PING of its own: the slowest link carries it within half a look. */
export const UNCONFIRMED_BYTES = (SLOW_BYTES_PER_S * LOOK_MS) / 2000;

/**
 * A PING among the bytes of its connection. It overtakes what HTTP/2 still holds back, and nothing that the
 * socket was given: it is behind exactly the bytes that count as written when it is sent, and its answer
 * proves that those arrived.
 */
export type Mark = {
  readonly sentMs: number;
  /** Bytes that were written before it, and how many of them no answer had confirmed. */
  readonly written: number;
  readonly underWay: number;
};

/** A lower bound: so many bytes at once arrived at this rate or faster. */
type Bound = { readonly bytes: number; readonly bytesPerS: number };
const UNMEASURED: Bound = { bytes: 0, bytesPerS: 0 };

/** What a connection carries to its device, from the answers to PINGs; decision 0033. */
export class Throughput {
  /** Bytes written that an answer confirmed. */
  #arrived = 0;
  /** At this moment `written` bytes were written: what followed them had no more time than since. */
  #since: { readonly ms: number; readonly written: number };
  /** The newest, at most MEASURED. */
  readonly #bounds: Bound[] = [];

  /** Of a connection that is seen for the first time all that ever was written may be under way. */
  constructor(nowMs: number, written: number) {
    this.#since = { ms: nowMs, written };
  }

  /** Bytes that no answer confirmed. */
  unconfirmed(written: number): number {
    return written - this.#arrived;
  }

  /** Next to nothing is under way: a measurement may begin here. */
  restart(nowMs: number, written: number): void {
    this.#since = { ms: nowMs, written };
  }

  mark(nowMs: number, written: number): Mark {
    return { sentMs: nowMs, written, underWay: Math.min(MOST_UNDER_WAY, this.unconfirmed(written)) };
  }

  /**
   * A PING's answer came. What was written since took no longer than since then; it may have been under way
   * long before the PING, whose own time says nothing. An answer that is late without so much before it tells
   * of a link that became slow, or of a device that computes: it counts as the former.
   */
  confirm({ sentMs, written }: Mark, nowMs: number): void {
    const bytes = written - this.#since.written;
    if (bytes >= MEASURED_BYTES || nowMs - sentMs > LOOK_MS) {
      this.#bounds.push({ bytes, bytesPerS: (bytes * 1000) / (nowMs - this.#since.ms) });
      if (this.#bounds.length > MEASURED) this.#bounds.shift();
    }
    this.#arrived = written;
    this.#since = { ms: sentMs, written };
  }

  /**
   * How long a PING may take to a device's end, behind what is under way. Links that are throttled let a few
   * kilobytes through at once, so what was measured speaks for as many bytes, and for no more.
   */
  arrivesWithinMs({ underWay }: Mark): number {
    const bounds = this.#bounds.length > 0 ? this.#bounds : [UNMEASURED];
    const seconds = bounds.map(({ bytes, bytesPerS }) => {
      const known = Math.min(underWay, bytes);
      return known / Math.max(SLOW_BYTES_PER_S, bytesPerS / MARGIN) + (underWay - known) / SLOW_BYTES_PER_S;
    });
    return Math.max(...seconds) * 1000;
  }
}
