import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { Checker, type Head, lineAfter } from "@tutti/audit/chain";
import type { Entry, Note } from "@tutti/audit/entry";
import { hex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { HelloReply } from "@tutti/wire/device";
import type { Audit } from "../audit.ts";
import { appendSynced } from "./append.ts";
import { closedSegments, lastLineOf, linesOf, numberIn, repair, segmentOf } from "./audit-files.ts";

/** Of a segment: a round writes a few lines of half a kilobyte, so half a year of one every ten minutes. */
const SEGMENT_BYTES = 64 << 20;

export const auditOwner = (device: string): string => `device ${device}`;

export type AuditOptions = {
  readonly device: string;
  readonly wallMs: () => number;
  /** Beyond it a file is closed and the next one begun. */
  readonly segmentBytes?: number;
};

/** The first entry of every file but a log's first: it names the one that was closed. */
const CONTINUED = "log.continued";

/**
 * A device's audit log: a line an entry, synced before what it tells of happens, each with the hash of the
 * one before it. A last line that a crash tore is cut off, and the log says so. A long file is renamed and
 * the log goes on in the next; one that was just renamed when a crash came goes on at the next start.
 * Once closed it takes nothing: another process may go on with the file.
 * @throws Fault("refused") for a log that is not whole, as far as its newest file tells: this device takes
 * part in nothing until someone looked.
 */
export function openAudit(file: string, by: AuditOptions): Audit & { close(): void } {
  const { device, wallMs, segmentBytes = SEGMENT_BYTES } = by;
  const repaired = repair(file);
  let { head, after } = newest(file, device);
  let { size } = repaired;
  let append = appendSynced(file);
  let closed = false;
  const write = (entry: Note) => {
    const next = lineAfter(head, entry, wallMs());
    append(`${next.line}\n`);
    size += Buffer.byteLength(next.line) + 1;
    head = next.head;
    remember(file, head);
  };
  const note = (entry: Note) => {
    demand(
      !closed,
      () => new Fault("cancelled", entry.what, { expected: "an open log", got: "a closed one" }),
    );
    if (size >= segmentBytes) {
      after = closeSegment(file, after);
      // Another file, whose name is synced with its first line; so is the closed one's.
      append = appendSynced(file);
      size = 0;
    }
    if (size === 0 && head.count > 0) write(continued(file, after, head));
    write(entry);
  };
  if (repaired.torn > 0) {
    const detail = { tornBytes: repaired.torn };
    note({ actor: "device", what: "log.repaired", subject: "last line", detail });
  }
  const close = () => {
    closed = true;
  };
  return { note, close };
}

function continued(file: string, after: number, { count }: Head): Note {
  const subject = basename(segmentOf(file, after));
  return { actor: "device", what: CONTINUED, subject, detail: { entries: count } };
}

/** Renames the file that is written to; the number that it has now. Nothing is ever written over. */
function closeSegment(file: string, after: number): number {
  let number = after + 1;
  while (existsSync(segmentOf(file, number))) number++;
  renameSync(file, segmentOf(file, number));
  return number;
}

/** The head of the newest file, and the number of the segment that it goes on from; 0: of none. */
function newest(file: string, device: string): { head: Head; after: number } {
  const closed = closedSegments(file).at(-1);
  const read = readFile(file, device, remembered(file));
  if (read.first === null && closed) {
    // Renamed, and the next one not begun.
    const { head } = readFile(closed.file, device, remembered(file));
    return { head, after: closed.number };
  }
  if (closed && !isSame(read.begins, endOf(closed.file, device)))
    throw new Fault("refused", `audit log, ${basename(file)}`, {
      expected: `one that goes on from ${basename(closed.file)}`,
      got: `one that begins after ${read.begins.count} entries`,
    });
  const named = read.first?.what === CONTINUED ? numberIn(file, read.first.subject) : null;
  return { head: read.head, after: named ?? closed?.number ?? 0 };
}

function isSame(one: Head, other: Head): boolean {
  return one.count === other.count && one.hash === other.hash;
}

/** The head of a closed file, by its last line alone. */
function endOf(file: string, device: string): Head {
  const checker = new Checker(auditOwner(device), [], "elsewhere");
  checker.take(lastLineOf(file));
  return checker.head;
}

type File = { begins: Head; head: Head; first: Entry | null; torn: number };

/** One file, checked by itself. */
function readFile(file: string, device: string, heads: readonly Head[]): File {
  const checker = new Checker(auditOwner(device), heads, "elsewhere");
  const { first, torn } = takeFile(file, checker, () => {});
  // Before anything is known of the file's end: it may be the one before that has it.
  const head = first === null && closedSegments(file).length > 0 ? checker.head : checker.end();
  return { begins: checker.begins, head, first, torn };
}

/** A file's lines; one that is not the log's first begins with an entry that says so. */
function takeFile(
  file: string,
  checker: Checker,
  takes: (entry: Entry, line: string) => void,
): { first: Entry | null; torn: number } {
  let first: Entry | null = null;
  const lines = linesOf(file);
  for (;;) {
    const { value, done } = lines.next();
    if (done) return { first, torn: value };
    const entry = checker.take(value);
    if (first === null && entry.seq > 0 && entry.what !== CONTINUED)
      throw new Fault("refused", `audit log, ${basename(file)}, line 1`, {
        expected: `the log's first entry, or ${CONTINUED}`,
        got: `entry ${entry.seq}, ${entry.what}`,
      });
    first ??= entry;
    takes(entry, value);
  }
}

/** A log that was read over all its files. */
export type ReadAudit = {
  readonly head: Head;
  readonly torn: number;
  /** So many entries are in older files, which are not here. */
  readonly begins: number;
  readonly files: readonly string[];
};

/**
 * The whole log, over all files that are here, checked; `takes` gets each entry.
 * @throws Fault("refused") naming the first thing wrong; Fault("not-found") where there is no file.
 */
export function read(
  file: string,
  device: string,
  takes: (entry: Entry, line: string) => void = () => {},
): ReadAudit {
  const closed = closedSegments(file);
  const files = [...closed.map((one) => one.file), ...(existsSync(file) ? [file] : [])];
  if (files.length === 0) throw new Fault("not-found", file, { expected: "an audit log", got: "none" });
  const checker = new Checker(auditOwner(device), remembered(file), "elsewhere");
  let torn = 0;
  for (const one of files) {
    const taken = inFile(one, () => takeFile(one, checker, takes));
    // A torn last line was never relied on: what it tells of had not happened yet.
    if (one === file) ({ torn } = taken);
    else if (taken.torn > 0)
      throw new Fault("refused", `audit log, ${basename(one)}`, {
        expected: "whole lines",
        got: `${taken.torn} bytes without an end`,
      });
  }
  return { head: checker.end(), torn, begins: checker.begins.count, files };
}

/** What is wrong, with the name of the file where it is. */
function inFile<T>(file: string, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    if (!(cause instanceof Fault) || cause.what.includes(basename(file))) throw cause;
    throw new Fault(cause.code, `${basename(file)}: ${cause.what}`, { ...cause.detail, cause });
  }
}

/**
 * The head is kept beside the log too, so that a log that was cut at a line's end is noticed, unless both
 * files were. It is replaced after the line is durable: it may lag behind, never lead.
 * @throws Fault("storage"): the entry is in the log, and what it tells of does not happen.
 */
function remember(file: string, { count, hash }: Head): void {
  const beside = headOf(file);
  try {
    writeFileSync(`${beside}.new`, `${count} ${hash}\n`);
    renameSync(`${beside}.new`, beside);
  } catch (cause) {
    const todo = "The entry is in the log; what it tells of was not done";
    throw new Fault("storage", beside, { expected: "to be written", got: `${cause}`, todo, cause });
  }
}

function remembered(file: string): Head[] {
  const beside = headOf(file);
  if (!existsSync(beside)) return [];
  const [, count, hash] = /^([0-9]{1,12}) ([0-9a-f]{64})\n$/.exec(readFileSync(beside, "utf8")) ?? [];
  // A power cut may lose the bytes of a file whose name it kept.
  return count !== undefined && hash !== undefined ? [{ count: Number(count), hash }] : [];
}

function headOf(file: string): string {
  return `${file}.head`;
}

const HOUR_MS = 3_600_000;

/**
 * Writes down which head of its own audit log a coordinator tells, where it is another than before: one an
 * hour, however often the coordinator has a new one, for the log must not grow as fast as others like. Of an
 * hour the newest counts, and is written at the first greeting after it, or by `close`.
 */
export function coordinatorHeads(
  audit: Audit,
  nowMs: () => number,
): { hear(told: Pick<HelloReply, "auditEntries" | "auditHead">): void; close(): void } {
  let last = "";
  let newest: { head: string; entries: number } | null = null;
  let nextMs = Number.NEGATIVE_INFINITY;
  const write = () => {
    if (newest === null || newest.head === last) return;
    const { head, entries } = newest;
    last = head;
    nextMs = nowMs() + HOUR_MS;
    try {
      audit.note({ actor: "coordinator", what: HEAD_TOLD, subject: head, detail: { entries } });
    } catch {
      // A full disk; greeting costs the site nothing.
    }
  };
  return {
    hear({ auditEntries, auditHead }) {
      if (auditHead.length === 32) newest = { head: hex(auditHead), entries: auditEntries };
      if (nowMs() >= nextMs) write();
    },
    close: write,
  };
}

const HEAD_TOLD = "head.told";

/** The head of the coordinator's log that an entry remembers. */
export function headTold({ what, subject, detail }: Entry): Head | undefined {
  return what === HEAD_TOLD ? { count: Number(detail.entries), hash: subject } : undefined;
}
