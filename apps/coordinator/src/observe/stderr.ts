import { EVENTS, type EventName } from "./events.ts";

/** Where lines go: this much may wait for a reader that does not read, and what comes then is lost. */
const MAX_WAITING_BYTES = 1 << 20;

/** Writes lines to a stream, by default stderr; a reader that stops costs lines, never memory. */
export function lineWriter(stream: NodeJS.WriteStream = process.stderr): (line: string) => void {
  let lost = 0;
  return (line) => {
    if (stream.writableLength > MAX_WAITING_BYTES) {
      lost += 1;
      return;
    }
    if (lost > 0) stream.write(`${lostLine(lost)}\n`);
    lost = 0;
    stream.write(`${line}\n`);
  };
}

/** As the log's own lines are; it cannot go through the log, which ends here. */
function lostLine(count: number): string {
  const event: EventName = "log.lost";
  return JSON.stringify({ at: new Date().toISOString(), level: EVENTS[event][0], event, count });
}
