import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import type { Artifacts } from "../artifacts.ts";

/** What one read or write of an artifact may take before it is given up and tried again. */
export const OPERATION_MS = 120_000;
/** What all of them may take in one attempt's completion, its tries together. */
export const STORING_MS = 600_000;

export type Storing = Pick<Artifacts, "read" | "putBytes">;

/**
 * The artifacts as one attempt's completion has them: a store that never answers ends the attempt by name and
 * not never. What is given up may end after all: then a file is there under the hash of what it holds, which
 * another try puts as well or nothing ever names.
 */
export function inTime(artifacts: Storing, clock: Pick<Clock, "nowMs" | "sleep">): Storing {
  let leftMs = STORING_MS;
  async function bounded<T>(what: string, begin: () => Promise<T>): Promise<T> {
    const over = new Fault("deadline", what, {
      expected: `answers within ${STORING_MS / 1000} s in all for one attempt`,
      got: "none in time",
      todo: "Check where artifacts are kept",
    });
    if (leftMs <= 0) throw over;
    const beganMs = clock.nowMs();
    const mostMs = Math.min(OPERATION_MS, leftMs);
    const ended = new AbortController();
    const late = clock.sleep(mostMs, ended.signal).then(() => {
      if (mostMs === leftMs) throw over;
      throw new Fault("unavailable", what, { expected: `an answer within ${mostMs / 1000} s`, got: "none" });
    });
    try {
      return await Promise.race([begin(), late]);
    } finally {
      // Told to end it rejects, and nobody listens any more.
      late.catch(() => {});
      ended.abort();
      leftMs -= clock.nowMs() - beganMs;
    }
  }
  return {
    read: (sha256) => bounded("reading an artifact", () => artifacts.read(sha256)),
    putBytes: (bytes) => bounded("writing an artifact", () => artifacts.putBytes(bytes)),
  };
}
