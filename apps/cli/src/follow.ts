import { delayMs, mayPass, type Patience } from "@tutti/client-sdk/backoff";
import { asFault, Fault } from "@tutti/foundation/fault";
import type { RunStatus } from "@tutti/wire/admin";
import type { AdminLink } from "./owner.ts";

/** For so long a coordinator may be away: one that is started again is back within seconds. */
const AWAY_MS = 60_000;

type Following = {
  readonly patience: Patience;
  readonly signal: AbortSignal;
  /** Once for each time that the connection is lost, and once when it is back. */
  readonly say: (line: string) => void;
};

/**
 * The statuses of a run until it is over, or the signal. A watch that a coordinator ended is taken up again,
 * with the same one or with whichever leads next: the run goes on whether anybody watches or not.
 * @throws Fault("unavailable") once nobody has answered for AWAY_MS; what waiting does not mend, at once.
 */
export async function* follow(
  admin: Pick<AdminLink, "watch">,
  run: string,
  { patience, signal, say }: Following,
): AsyncGenerator<RunStatus> {
  const { clock, jitter } = patience;
  let lostMs: number | null = null;
  for (let attempt = 0; !signal.aborted; attempt++) {
    let because = new Fault("unavailable", "the coordinator ended the watch");
    try {
      for await (const status of admin.watch({ $typeName: "tutti.v1.RunRequest", run }, signal)) {
        if (lostMs !== null) say("connected again");
        [lostMs, attempt] = [null, 0];
        yield status;
        if (status.state !== "running") return;
      }
    } catch (error) {
      because = asFault(error);
      if (signal.aborted) return;
      if (!(mayPass(because) || because.code === "cancelled")) throw error;
    }
    const nowMs = clock.nowMs();
    if (lostMs === null)
      say(`connection lost (${because.message}); trying again. The run goes on while its coordinator does`);
    lostMs ??= nowMs;
    if (nowMs - lostMs >= AWAY_MS) throw away(run, because);
    await clock.sleep(delayMs(attempt, jitter, because), signal).catch(() => {});
  }
}

function away(run: string, because: Fault): Fault {
  return new Fault("unavailable", `watching run ${run.slice(0, 12)}`, {
    expected: `its coordinator within ${AWAY_MS / 1000} s`,
    got: because.message,
    todo: "The run goes on once it is there; `tutti run status` says how it is",
    cause: because,
  });
}
