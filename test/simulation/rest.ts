import type { Timeline } from "./timeline.ts";
import { Violation } from "./witness.ts";

/** Events at one moment: seeds have some fifteen. Beyond it somebody waits for no time at all, for ever. */
export const MOST_AT_ONCE = 5_000;

/** Asked after each event. @throws Violation where more happens than in a federation that comes to rest. */
export function restless({ nowMs }: Timeline, { mostMs }: { mostMs: number }): (timeline: Timeline) => void {
  let [atMs, events] = [nowMs, 0];
  return ({ nowMs }) => {
    events = nowMs === atMs ? events + 1 : 0;
    atMs = nowMs;
    if (events > MOST_AT_ONCE)
      throw new Violation(
        `the federation did not come to rest: time stands still at ${seconds(nowMs)}, after ${events} events`,
      );
    if (nowMs > mostMs)
      throw new Violation(
        `the federation did not come to rest within ${seconds(mostMs)} of virtual time: ` +
          "somebody waits for what does not come, as for a deadline that nothing looks at",
      );
  };
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(0)} s`;
}
