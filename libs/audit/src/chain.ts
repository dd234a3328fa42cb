import { utf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { bounded, type Entry, MAX_LINE_CHARS, type Note, parseEntry } from "./entry.ts";
import { type Removal, removalOf } from "./removal.ts";

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

/** The hash that a line says is its own. */
export function hashIn(line: string): string | undefined {
  return TAIL.exec(line)?.[1];
}

/**
 * What is before the first line of a log that does not begin with its first entry: `noted` wants an entry of
 * the log that says it was removed, `elsewhere` takes it to be in another file.
 */
export type Older = "noted" | "elsewhere";

/** Reads a log line by line, and holds it to its own hashes and to heads that others remember. */
export class Checker {
  #head: Head;
  #begins: Head;
  readonly #older: Older;
  /** Heads that are still to be met, by their count. */
  readonly #awaited: Map<number, string>;
  #removed: (Removal & { readonly at: string }) | null = null;

  constructor(owner: string, remembered: readonly Head[] = [], older: Older = "noted") {
    this.#head = startOf(owner);
    this.#begins = this.#head;
    this.#older = older;
    this.#awaited = new Map();
    for (const { count, hash } of remembered) {
      const other = this.#awaited.get(count);
      if (other !== undefined && other !== hash)
        throw wrong(`the head after ${count} entries`, `${short(hash)}, as remembered`, short(other));
      this.#awaited.set(count, hash);
    }
    this.#meet(this.#head);
  }

  get head(): Head {
    return this.#head;
  }

  /** The head before the first line: so many entries are not there. */
  get begins(): Head {
    return this.#begins;
  }

  /** The last removal that an entry tells of, and when. */
  get removed(): (Removal & { readonly at: string }) | null {
    return this.#removed;
  }

  /** Remembered heads of entries that are not there: of these nothing can be said. */
  get unreachable(): number {
    return [...this.#awaited.keys()].filter((count) => count < this.#begins.count).length;
  }

  /** The entry of the next line. @throws Fault("refused") naming the line and what is wrong with it. */
  take(line: string): Entry {
    const { count, hash: before } = this.#head;
    const name = `line ${count + 1}`;
    if (line.length > MAX_LINE_CHARS)
      throw wrong(name, `at most ${MAX_LINE_CHARS} characters`, `${line.length}`);
    const hash = hashIn(line);
    if (hash === undefined) throw wrong(name, "a whole entry with its hash", "another text");
    const body = `${line.slice(0, line.length - TAIL_CHARS)}}`;
    const own = sha256Hex(utf8(body));
    if (own !== hash) throw wrong(name, `hash ${short(hash)}, which it says`, short(own));
    const entry = parseEntry(body);
    if (count === 0 && entry.seq > 0) this.#beginAt({ count: entry.seq, hash: entry.previous });
    else if (entry.seq !== count) throw wrong(name, `entry ${count}`, `entry ${entry.seq}`);
    else if (entry.previous !== before)
      throw wrong(name, `one after ${short(before)}`, `after ${short(entry.previous)}`);
    this.#head = { count: entry.seq + 1, hash };
    this.#meet(this.#head);
    const removal = removalOf(entry);
    if (removal) this.#takeRemoval({ ...removal, at: entry.at });
    return entry;
  }

  /**
   * The head, once every line was taken. @throws Fault("refused") where a remembered head was not met, or no
   * entry says why the first ones are gone.
   */
  end(): Head {
    const most = Math.max(0, ...this.#awaited.keys());
    if (most > this.#head.count)
      throw wrong("the log", `at least ${most} entries, as remembered`, `${this.#head.count}`);
    const { count } = this.#begins;
    // More may be there than was removed, from an older part.
    if (count <= (this.#removed?.to ?? 0) || this.#older === "elsewhere") return this.#head;
    throw wrong("its beginning", `an entry that says that the first ${count} were removed`, "none");
  }

  #beginAt(begins: Head): void {
    this.#begins = begins;
    this.#meet(begins);
  }

  /** Each removal goes on where the one before ended: none in between was kept quiet. */
  #takeRemoval(removal: Removal & { readonly at: string }): void {
    const { from, to, hash } = removal;
    const before = this.#removed?.to ?? (this.#begins.count === 0 ? 0 : from);
    if (from !== before)
      throw wrong(`entry ${this.#head.count - 1}`, `a removal from entry ${before} on`, `from ${from} on`);
    if (to === this.#begins.count && hash !== this.#begins.hash)
      throw wrong("its beginning", `one after ${short(hash)}, as noted`, `after ${short(this.#begins.hash)}`);
    this.#removed = removal;
    if (to < this.#begins.count) this.#meet({ count: to, hash });
  }

  #meet({ count, hash }: Head): void {
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
