import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";

/** Uploads that could make room, in the order in which they are asked to. */
export type Spare = {
  readonly devices: () => readonly string[];
  /** Frees what the device has taken. */
  readonly giveUp: (device: string) => void;
};

type Place = { bytes: number; untilMs: number };
/** Bytes of an upload, and of those who came before it. */
type Need = { readonly bytes: number; readonly ahead: number };

/** Who is turned away for the first time comes back this much later; more are before it, later. */
const RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
/** A place is kept for who comes back a little late; then the line goes on without it. */
const GRACE_MS = 2_000;

/**
 * Room in memory for uploads, one of each device, first come, first served: who was turned away keeps its
 * place until it comes again, as it was told to.
 */
export class UploadRoom {
  readonly #limitBytes: number;
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #taken = new Map<string, number>();
  /** In the order of their coming: `set` on a key that is there keeps its place. */
  readonly #line = new Map<string, Place>();
  #held = 0;

  constructor(bytes: number, clock: Pick<Clock, "nowMs">) {
    this.#limitBytes = bytes;
    this.#clock = clock;
  }

  /** Bytes that are taken now. */
  get held(): number {
    return this.#held;
  }

  /**
   * Reserves room until `free`. Where there is too little, as few of the spare as suffice give theirs up, in
   * their order; if all of them would not suffice, none does.
   * @throws Fault("unavailable") saying when to come again.
   */
  take(who: string, bytes: number, spare: Spare): void {
    this.free(who);
    const need = { bytes, ahead: this.#ahead(who) };
    const enough = this.#enough(need, spare);
    if (!enough) throw this.#later(who, need);
    for (const device of enough) spare.giveUp(device);
    this.#line.delete(who);
    this.#taken.set(who, bytes);
    this.#held += bytes;
  }

  free(who: string): void {
    this.#held -= this.#taken.get(who) ?? 0;
    this.#taken.delete(who);
  }

  /** Of the spare those that make room; null where all of them do not. */
  #enough({ bytes, ahead }: Need, { devices }: Spare): string[] | null {
    let held = this.#held;
    // An upload larger than all there is goes alone: it could never be taken otherwise.
    const fits = () => (held === 0 && ahead === 0) || held + ahead + bytes <= this.#limitBytes;
    if (fits()) return [];
    const asked: string[] = [];
    for (const device of devices()) {
      asked.push(device);
      held -= this.#taken.get(device) ?? 0;
      if (fits()) return asked;
    }
    return null;
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

  #later(who: string, { bytes, ahead }: Need): Fault {
    const turns = Math.ceil((ahead + bytes) / this.#limitBytes);
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
