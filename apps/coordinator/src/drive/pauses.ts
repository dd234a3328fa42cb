import { type Window, windowFor } from "@tutti/round/pace";
import { type RetryWindow, RetryWindowSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { IdleSchema, type Instruction, InstructionSchema } from "@tutti/wire/round";

/*
 * How often devices come, by how many there are: docs/protocol.md, Pace steering.
 */

/** New connections and questions a second: each costs a handshake or a signature, a few milliseconds. */
const ARRIVALS_PER_S = 200;
/** Reports a second: each wakes whoever watches. */
const REPORTS_PER_S = 100;

/** For coming back after a lost stream: of few devices as soon as ever. */
export function returnOf(devices: number): Window {
  return windowFor(devices, { perS: ARRIVALS_PER_S, leastMs: 300 });
}

/** Between two questions of an idle device without a stream. */
export function pauseOf(devices: number): Window {
  return windowFor(devices, { perS: ARRIVALS_PER_S, leastMs: 3_000 });
}

/** The same in a round, where others wait for its answer. */
export function pauseInRound(devices: number): Window {
  return windowFor(devices, { perS: ARRIVALS_PER_S, leastMs: 600 });
}

export function reportPause(devices: number): Window {
  return windowFor(devices, { perS: REPORTS_PER_S, leastMs: 1_000 });
}

export function retryOf({ minMs, maxMs }: Window): RetryWindow {
  return create(RetryWindowSchema, { minMs, maxMs });
}

/** Each idle device's is kept: those that say the same as the one before them are one in memory. */
export class IdleWords {
  #last: { readonly because: string; readonly maxMs: number; readonly word: Instruction } | null = null;

  of(because: string, window: Window): Instruction {
    const { maxMs } = window;
    if (this.#last?.because !== because || this.#last.maxMs !== maxMs)
      this.#last = { because, maxMs, word: idleWord(because, window) };
    return this.#last.word;
  }
}

function idleWord(because: string, window: Window): Instruction {
  const value = { retryAfterMs: window.minMs, retry: retryOf(window), because };
  return create(InstructionSchema, { word: { case: "idle", value: create(IdleSchema, value) } });
}
