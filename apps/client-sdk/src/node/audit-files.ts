import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync, truncateSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Fault } from "@tutti/foundation/fault";

/**
 * The files of a log that is written in segments: `audit.1.log` is the oldest, `audit.log` the one that is
 * written to. Read a piece at a time: no file is too long to be read.
 */

const PIECE = 1 << 20;
/** No line is nearly as long; a file without an end of line is no log. */
const MAX_LINE_BYTES = 1 << 20;

export type Segment = { readonly file: string; readonly number: number };

/** Where the segment with a number is when it is closed. */
export function segmentOf(file: string, number: number): string {
  return file.replace(/\.log$/, `.${number}.log`);
}

/** The number in a closed segment's name; null for another name. */
export function numberIn(file: string, name: string): number | null {
  const stem = basename(file).replace(/\.log$/, "");
  const number = name.startsWith(`${stem}.`)
    ? /^(\d{1,9})\.log$/.exec(name.slice(stem.length + 1))?.[1]
    : null;
  return number ? Number(number) : null;
}

/** Those that are closed and still here, oldest first. */
export function closedSegments(file: string): Segment[] {
  const folder = dirname(file);
  const names = readable(file, () => (existsSync(folder) ? readdirSync(folder) : []));
  return names
    .map((name) => ({ file: join(folder, name), number: numberIn(file, name) }))
    .filter((one): one is Segment => one.number !== null)
    .sort((a, b) => a.number - b.number);
}

/** Each whole line of a file; what is behind the last end of line is returned as its size. */
export function* linesOf(file: string): Generator<string, number> {
  if (!existsSync(file)) return 0;
  const handle = readable(file, () => openSync(file, "r"));
  try {
    const piece = Buffer.alloc(PIECE);
    let rest: Uint8Array = new Uint8Array(0);
    for (;;) {
      const got = readable(file, () => readSync(handle, piece, 0, PIECE, null));
      if (got === 0) return rest.length;
      const bytes = Buffer.concat([rest, piece.subarray(0, got)]);
      let from = 0;
      for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, from)) {
        yield bytes.toString("utf8", from, end);
        from = end + 1;
      }
      rest = bytes.subarray(from);
      if (rest.length > MAX_LINE_BYTES)
        throw new Fault("refused", file, { expected: "lines", got: `${rest.length} bytes without an end` });
    }
  } finally {
    closeSync(handle);
  }
}

/** Cuts off a torn last line; its bytes, and the size of what is left. */
export function repair(file: string): { torn: number; size: number } {
  if (!existsSync(file)) return { torn: 0, size: 0 };
  const { size, tail } = tailOf(file);
  const torn = tail.length - (tail.lastIndexOf(10) + 1);
  if (torn > 0) readable(file, () => truncateSync(file, size - torn));
  return { torn, size: size - torn };
}

/** The last line of a file that ends with a whole one. */
export function lastLineOf(file: string): string {
  const { tail } = tailOf(file);
  const end = tail.lastIndexOf(10);
  return tail.toString("utf8", end < 1 ? 0 : tail.lastIndexOf(10, end - 1) + 1, Math.max(0, end));
}

/** The end of a file, which holds the end of a line at least, unless that is the whole file. */
function tailOf(file: string): { size: number; tail: Buffer } {
  return readable(file, () => {
    const handle = openSync(file, "r");
    try {
      const { size } = fstatSync(handle);
      const tail = Buffer.alloc(Math.min(size, MAX_LINE_BYTES));
      readSync(handle, tail, 0, tail.length, size - tail.length);
      if (size > tail.length && !tail.includes(10)) throw new Error("no end of line near its end");
      return { size, tail };
    } finally {
      closeSync(handle);
    }
  });
}

function readable<T>(file: string, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    throw new Fault("storage", file, { expected: "a readable audit log", got: `${cause}`, cause });
  }
}
