import type { Change } from "@tutti/coordinator/store/store";
import { type Plan, parsePlan } from "@tutti/plan/plan";
import { beginRound, type Round, step } from "@tutti/round/round";
import { taskOf } from "@tutti/round/run";
import { type JournalEntry, JournalEntrySchema, type RunHeader, RunHeaderSchema } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { AUTHORITY, verify } from "../cast.ts";
import { type Asked, Violation, type Watcher } from "../witness.ts";
import type { World } from "../world.ts";

/** What is durable of a run, decoded. */
export type Book = {
  readonly run: string;
  readonly plan: Plan;
  readonly planEnvelope: SignedEnvelope;
  header: RunHeader;
  /** How it was over; it may have been resumed since. */
  readonly ends: Set<string>;
  resumedMs: number;
  entries: JournalEntry[];
  /** What the entries come to, whoever wrote them; a round that ended stays until the next one's first. */
  round: Round | null;
  /** Digests of its releases, by version. */
  readonly releases: { readonly digest: string; readonly envelope: SignedEnvelope }[];
};

type Case = JournalEntry["event"]["case"];

/** Keeps the durable state of every run decoded, and holds it to what it may become. */
export class Books implements Watcher {
  readonly runs = new Map<string, Book>();
  /**
   * How often each run may still go on at its owner's wish: a request that was sent again since its answer
   * was late may arrive after all, and each twice, when the run was stopped once more.
   */
  readonly #asked = new Map<string, number>();

  sent(_world: World, from: string, { method, message }: Asked): void {
    if (method.localName !== "resumeRun" || from !== "owner") return;
    const { run } = message as unknown as { run: string };
    this.#asked.set(run, (this.#asked.get(run) ?? 0) + 2);
  }

  committed({ database, timeline }: World, run: string, change: Change): void {
    const book = this.runs.get(run) ?? open(database.runs.get(run)!);
    this.runs.set(run, book);
    if (change.clearJournal) book.entries = [];
    for (const { seq, entry } of change.append ?? [])
      if (seq >= book.entries.length) written(book, decode(JournalEntrySchema, entry, 1 << 22));
    if (change.release) this.#released(book, change.release);
    if (change.header) this.#headed(book, decode(RunHeaderSchema, change.header, 1 << 22), timeline.nowMs);
  }

  /** Whether a device's message is written down, or the round that it is of is over. */
  holds(
    { run, round, attempt }: { run: string; round: number; attempt: number },
    device: string,
    kind: Case,
  ): boolean {
    const book = this.runs.get(run);
    if (!book) return false;
    const past = after(book.header, { round, attempt });
    return past || book.entries.some(({ device: by, event }) => by === device && event.case === kind);
  }

  #released(book: Book, { version, digest, envelope }: NonNullable<Change["release"]>): void {
    const held = book.releases[version];
    if (held && held.digest !== digest) throw new Violation(`two releases of version ${version} are durable`);
    if (!held && version !== book.releases.length)
      throw new Violation(`release ${version} follows release ${book.releases.length - 1}`);
    book.releases[version] = { digest, envelope: decode(SignedEnvelopeSchema, envelope, 1 << 20) };
  }

  #resumed(book: Book, nowMs: number): void {
    const left = (this.#asked.get(book.run) ?? 0) - 1;
    if (left < 0) throw new Violation(`${name(book)} goes on, and nobody asked for it`);
    this.#asked.set(book.run, left);
    book.resumedMs = nowMs;
  }

  #headed(book: Book, next: RunHeader, nowMs: number): void {
    const { header: before } = book;
    // A run that is resumed counts its attempts on: of a stopped one, too, no second sum is opened.
    const resumed = next.state === "running" && /^(failed|stopped)$/.test(before.state);
    if (resumed) this.#resumed(book, nowMs);
    const since = before.attempt + (before.state === "stopped" ? 1 : 0);
    if (next.state === "running" && isBehind(next, { round: before.round, attempt: since }))
      throw new Violation(`${name(book)} went back to ${next.round}/${next.attempt}`);
    if (next.history.length < before.history.length) throw new Violation(`${name(book)} forgot a round`);
    if (!resumed && before.state !== "running" && before.state !== "" && next.state !== before.state)
      throw new Violation(`${name(book)} was ${before.state} and is ${next.state}`);
    if (/does not replay/.test(next.reason)) throw new Violation(`${name(book)}: ${next.reason}`);
    book.header = next;
    if (next.state !== "running") book.ends.add(next.state);
  }
}

/** Whether a run is beyond a round's attempt. */
export function after(header: RunHeader, { round, attempt }: { round: number; attempt: number }): boolean {
  return header.state !== "running" || isBehind({ round, attempt }, header);
}

function isBehind(
  one: { round: number; attempt: number },
  other: { round: number; attempt: number },
): boolean {
  return other.round > one.round || (other.round === one.round && other.attempt > one.attempt);
}

/** A coordinator that takes the run up now would do the same with it (drive/driver.ts). */
function written(book: Book, entry: JournalEntry): void {
  const round = book.entries.length === 0 ? begun(book, entry) : book.round!;
  book.entries.push(entry);
  try {
    [book.round] = step(round, entry);
  } catch (error) {
    throw new Violation(`the journal of ${name(book)} does not replay: ${(error as Error).message}`);
  }
}

function begun({ run, plan, header }: Book, { nowMs, checkedAtS }: JournalEntry): Round {
  const { attempt, cohort, owed } = header;
  const task = taskOf(run, plan, header);
  const spec = { plan, task, attempt, expected: new Set(cohort), owed: new Map(Object.entries(owed)) };
  return beginRound(spec, {
    connected: [],
    nowMs,
    trust: { authority: AUTHORITY, nowS: checkedAtS, verify },
  });
}

export function name({ run, plan }: Book): string {
  return `${plan.name} (${run.slice(0, 8)})`;
}

function open(stored: { run: string; plan: Uint8Array; header: Uint8Array }): Book {
  const planEnvelope = decode(SignedEnvelopeSchema, stored.plan, 1 << 20);
  return {
    run: stored.run,
    plan: parsePlan(planEnvelope.payload),
    planEnvelope,
    header: decode(RunHeaderSchema, stored.header, 1 << 22),
    ends: new Set(),
    resumedMs: Number.NEGATIVE_INFINITY,
    entries: [],
    round: null,
    releases: [],
  };
}
