import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";

type Place = { bytes: number; untilMs: number };

/** Who is turned away for the first time comes back this much later; more are before it, later. */
const RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
/** A place is kept for who comes back a little late; then the line goes on without it. */
const GRACE_MS = 2_000;

/**
 * Room in memory for uploads, one of each device, first come, first served: who was turned away keeps its
 * place until it comes again, as it was told to.
 */
export class Budget {
  readonly #bytes: number;
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #taken = new Map<string, number>();
  /** In the order of their coming. */
  readonly #line = new Map<string, Place>();
  #held = 0;

  constructor(bytes: number, clock: Pick<Clock, "nowMs">) {
    this.#bytes = bytes;
    this.#clock = clock;
  }

  /** Bytes that are taken now. */
  get held(): number {
    return this.#held;
  }

  /**
   * Takes room until `free`. `spare` gives up something that is not in use, if there is anything.
   * @throws Fault("unavailable") saying when to come again.
   */
  take(who: string, bytes: number, spare: () => boolean): void {
    this.free(who);
    const ahead = this.#ahead(who);
    while (!this.#fits(ahead, bytes) && spare());
    if (!this.#fits(ahead, bytes)) throw this.#later(who, { bytes, ahead });
    this.#line.delete(who);
    this.#taken.set(who, bytes);
    this.#held += bytes;
  }

  free(who: string): void {
    this.#held -= this.#taken.get(who) ?? 0;
    this.#taken.delete(who);
  }

  /** An upload larger than all there is goes alone: it could never be taken otherwise. */
  #fits(ahead: number, bytes: number): boolean {
    const alone = this.#held === 0 && ahead === 0;
    return alone || this.#held + ahead + bytes <= this.#bytes;
  }

  /** What those need who came before; places that nobody came back for are gone. */
  #ahead(who: string): number {
    const nowMs = this.#clock.nowMs();
    let ahead = 0;
    for (const [other, { bytes, untilMs }] of this.#line) {
      if (other === who) break;
      if (untilMs < nowMs) this.#line.delete(other);
      else ahead += bytes;
    }
    return ahead;
  }

  #later(who: string, { bytes, ahead }: { bytes: number; ahead: number }): Fault {
    const turns = Math.ceil((ahead + bytes) / this.#bytes);
    const retryAfterMs = Math.min(LONGEST_RETRY_MS, RETRY_MS * turns);
    // It adds up to half as much again by itself (the SDK's backoff.ts).
    this.#line.set(who, { bytes, untilMs: this.#clock.nowMs() + 1.5 * retryAfterMs + GRACE_MS });
    return new Fault("unavailable", "upload", {
      expected: "fewer uploads at once",
      got: `${this.#held} bytes of them`,
      retryAfterMs,
    });
  }
}
