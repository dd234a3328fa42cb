import { asFault } from "@tutti/foundation/fault";
import type { RunStatus } from "@tutti/wire/admin";
import type { AdminLink } from "./owner.ts";

/** Coordinators in a row that may go away before they said anything. */
const TRIES = 5;

/**
 * The statuses of a run until it is over. Where the federation has several coordinators, a watch that one of
 * them ends is taken up with whichever leads next.
 */
export async function* follow(
  admin: Pick<AdminLink, "watch">,
  run: string,
  { several, signal }: { several: boolean; signal: AbortSignal },
): AsyncGenerator<RunStatus> {
  for (let silent = 0; ; silent++) {
    let last: RunStatus | undefined;
    try {
      for await (const status of admin.watch({ $typeName: "tutti.v1.RunRequest", run }, signal)) {
        [last, silent] = [status, 0];
        yield status;
      }
      if (!several || last?.state !== "running" || signal.aborted) return;
    } catch (error) {
      if (!several || asFault(error).code !== "unavailable" || silent >= TRIES) throw error;
    }
  }
}
