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
    if (lost > 0) stream.write(`${JSON.stringify({ event: "log.lost", count: lost })}\n`);
    lost = 0;
    stream.write(`${line}\n`);
  };
}
