import { existsSync, readFileSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { Checker, type Head, lineAfter } from "@tutti/audit/chain";
import type { Entry, Note } from "@tutti/audit/entry";
import { hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { HelloReply } from "@tutti/wire/device";
import type { Audit } from "../audit.ts";
import { appendSynced } from "./append.ts";

/** A round writes a few lines of half a kilobyte: two years of one every ten minutes (docs/operating.md). */
const MAX_BYTES = 256 << 20;

export const auditOwner = (device: string): string => `device ${device}`;

/**
 * A device's audit log: a line an entry, synced before what it tells of happens, each with the hash of the
 * one before it. A last line that a crash tore is cut off, and the log says so.
 * @throws Fault("refused") for a log that is not whole: this device takes part in nothing until someone
 * looked.
 */
export function openAudit(file: string, by: { device: string; wallMs: () => number }): Audit {
  const torn = repair(file);
  let { head } = read(file, by.device);
  const append = appendSynced(file);
  const note = (entry: Note) => {
    const next = lineAfter(head, entry, by.wallMs());
    append(`${next.line}\n`);
    head = next.head;
    remember(file, head);
  };
  if (torn > 0)
    note({ actor: "device", what: "log.repaired", subject: "last line", detail: { tornBytes: torn } });
  return { note };
}

/** The whole log, checked; `takes` gets each entry. @throws Fault("refused") naming the first thing wrong. */
export function read(
  file: string,
  device: string,
  takes: (entry: Entry, line: string) => void = () => {},
): { head: Head; torn: number } {
  const text = textOf(file);
  const lines = text.split("\n");
  // A torn last line was never relied on: what it tells of had not happened yet.
  const torn = Buffer.byteLength(lines.pop() ?? "");
  const checker = new Checker(auditOwner(device), remembered(file));
  for (const line of lines) takes(checker.take(line), line);
  return { head: checker.end(), torn };
}

/**
 * The head is kept beside the log too, so that a log that was cut at a line's end is noticed, unless both
 * files were. It is replaced after the line is durable: it may lag behind, never lead.
 */
function remember(file: string, { count, hash }: Head): void {
  const beside = headOf(file);
  writeFileSync(`${beside}.new`, `${count} ${hash}\n`);
  renameSync(`${beside}.new`, beside);
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

/** How many bytes of a torn last line were cut off. */
function repair(file: string): number {
  const text = textOf(file);
  const whole = Buffer.byteLength(text.slice(0, text.lastIndexOf("\n") + 1));
  const torn = Buffer.byteLength(text) - whole;
  if (torn > 0) truncateSync(file, whole);
  return torn;
}

function textOf(file: string): string {
  try {
    if (!existsSync(file)) return "";
    const bytes = readFileSync(file);
    if (bytes.length > MAX_BYTES) throw new Error(`${bytes.length} bytes, more than ${MAX_BYTES}`);
    return bytes.toString("utf8");
  } catch (cause) {
    throw new Fault("storage", file, { expected: "a readable audit log", got: `${cause}`, cause });
  }
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
