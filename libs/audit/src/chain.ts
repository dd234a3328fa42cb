import { utf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { bounded, type Entry, MAX_LINE_CHARS, type Note, parseEntry } from "./entry.ts";

/**
 * An append-only log in which every line holds the SHA-256 of the line before it and of itself, so that no
 * line can be changed, removed, added or moved without all that follow being written anew. That its end was
 * cut off, or that it was written anew as a whole, only shows where somebody else remembers a head.
 */

/** So many entries, the last of which has this hash. */
export type Head = { readonly count: number; readonly hash: string };

/** The head of an empty log. A log of one owner is not another's. */
export function startOf(owner: string): Head {
  return { count: 0, hash: sha256Hex(utf8(`tutti/audit/v1 ${owner}`)) };
}

/** The next line, without its end, and the head after it. */
export function lineAfter(head: Head, note: Note, wallMs: number): { line: string; head: Head } {
  const { actor, what, subject, detail } = bounded(note);
  const at = new Date(wallMs).toISOString();
  const body = JSON.stringify({ seq: head.count, at, actor, what, subject, detail, previous: head.hash });
  const hash = sha256Hex(utf8(body));
  return { line: withHash(body, hash), head: { count: head.count + 1, hash } };
}

const TAIL = /,"hash":"([0-9a-f]{64})"}$/;

/** The hash stands last in the line and covers all that stands before it, byte for byte. */
function withHash(body: string, hash: string): string {
  return `${body.slice(0, -1)},"hash":"${hash}"}`;
}

/** Reads a log line by line, and holds it to its own hashes and to heads that others remember. */
export class Checker {
  #head: Head;
  /** Heads that are still to be met, by their count. */
  readonly #awaited: Map<number, string>;

  constructor(owner: string, remembered: readonly Head[] = []) {
    this.#head = startOf(owner);
    this.#awaited = new Map();
    for (const { count, hash } of remembered) {
      const other = this.#awaited.get(count);
      if (other !== undefined && other !== hash)
        throw wrong(`the head after ${count} entries`, `${short(hash)}, as remembered`, short(other));
      this.#awaited.set(count, hash);
    }
    this.#meet();
  }

  get head(): Head {
    return this.#head;
  }

  /** The entry of the next line. @throws Fault("refused") naming the line and what is wrong with it. */
  take(line: string): Entry {
    const { count, hash: before } = this.#head;
    const name = `line ${count + 1}`;
    if (line.length > MAX_LINE_CHARS)
      throw wrong(name, `at most ${MAX_LINE_CHARS} characters`, `${line.length}`);
    const hash = TAIL.exec(line)?.[1];
    if (hash === undefined) throw wrong(name, "a whole entry with its hash", "another text");
    const body = `${line.slice(0, line.length - TAIL_CHARS)}}`;
    const own = sha256Hex(utf8(body));
    if (own !== hash) throw wrong(name, `hash ${short(hash)}, which it says`, short(own));
    const entry = parseEntry(body);
    if (entry.seq !== count) throw wrong(name, `entry ${count}`, `entry ${entry.seq}`);
    if (entry.previous !== before)
      throw wrong(name, `one after ${short(before)}`, `after ${short(entry.previous)}`);
    this.#head = { count: count + 1, hash };
    this.#meet();
    return entry;
  }

  /** The head, once every line was taken. @throws Fault("refused") where a remembered head was not met. */
  end(): Head {
    const most = Math.max(0, ...this.#awaited.keys());
    if (most > 0) throw wrong("the log", `at least ${most} entries, as remembered`, `${this.#head.count}`);
    return this.#head;
  }

  #meet(): void {
    const { count, hash } = this.#head;
    const awaited = this.#awaited.get(count);
    if (awaited === undefined) return;
    if (awaited !== hash)
      throw wrong(`the head after ${count} entries`, `${short(awaited)}, as remembered`, short(hash));
    this.#awaited.delete(count);
  }
}

const TAIL_CHARS = withHash("{}", "0".repeat(64)).length - 1;

/** Checks a whole log. @throws Fault("refused") naming the first thing wrong. */
export function checkChain(
  lines: Iterable<string>,
  { owner, remembered = [] }: { readonly owner: string; readonly remembered?: readonly Head[] },
): Head {
  const checker = new Checker(owner, remembered);
  for (const line of lines) checker.take(line);
  return checker.end();
}

function wrong(where: string, expected: string, got: string): Fault {
  return new Fault("refused", `audit log, ${where}`, { expected, got });
}

function short(hash: string): string {
  return hash.slice(0, 12);
}
