import { assert } from "@tutti/foundation/check";
import { type Clock, within } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";

/** Words that wait for the one that is answered. What more there is waits with the coordinator. */
const MOST_WORDS = 16;
assert(MOST_WORDS * MAX_MESSAGE_BYTES <= 16 << 20, "words that wait are small beside a model");

/**
 * So long a stream is not read at most: a download may take as long. Then it is given up, since one that was
 * lost meanwhile looks the same; on the next one the coordinator says what is so by then.
 */
const LONGEST_PAUSE_MS = 600_000;

/** Room for the words of one stream after another. */
export class Room {
  #words = 0;
  #onRoom = () => {};

  /** One word more waits; returns what to call when it does no longer. */
  take(): () => void {
    this.#words++;
    return () => {
      this.#words--;
      this.#onRoom();
    };
  }

  /** Resolves when there is room. @throws Fault("unavailable") where there is none for LONGEST_PAUSE_MS. */
  async made(clock: Clock, signal: AbortSignal): Promise<void> {
    if (this.#words < MOST_WORDS) return;
    const room = new Promise<void>((resolve) => {
      this.#onRoom = resolve;
    });
    if (await within(room, { clock, mostMs: LONGEST_PAUSE_MS, signal })) return;
    const detail = { expected: `at most ${MOST_WORDS} to answer`, got: "more, and no end of the first" };
    throw new Fault("unavailable", "words of the coordinator", detail);
  }
}
