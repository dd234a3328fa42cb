import { sha256Hex } from "@tutti/foundation/hash";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type Asked, type Told, Violation, type Watcher } from "../witness.ts";
import type { World } from "../world.ts";
import { after, type Books } from "./books.ts";
import type { Sessions } from "./sessions.ts";

/** The journal's name of each message that is acknowledged. */
const EVENTS = {
  ready: "ready",
  decline: "declined",
  advertise: "advertised",
  pick: "picked",
  share: "shared",
  upload: "uploaded",
  attest: "attested",
  reveal: "revealed",
} as const;

/** An answer to what was written down just before the close comes within this. */
const ONE_EVENT_MS = 5;
/** A process that was woken answers what it had written down before. */
const WOKEN_MS = 1_000;

type At = { readonly run: string; readonly round: number; readonly attempt: number };

/** Promise 1: what is acknowledged is durable, and what devices are told follows from what is durable. */
export class Durable implements Watcher {
  readonly #books: Books;
  readonly #sessions: Sessions;
  /** When a round of each run was closed last. */
  readonly #closedMs = new Map<string, number>();

  constructor(books: Books, sessions: Sessions) {
    this.#books = books;
    this.#sessions = sessions;
  }

  answered(world: World, from: string, asked: Asked): void {
    const { localName } = asked.method;
    if (localName === "enroll" && !world.database.devices.has(from))
      throw new Violation(`the enrolment of ${from} was acknowledged and is not durable`);
    if (!Object.hasOwn(EVENTS, localName)) return;
    const at = this.#of(asked);
    if (!at)
      throw new Violation(`${localName} of ${from} was acknowledged, for a session that nobody opened`);
    if (!this.#books.holds(at, from, EVENTS[localName as keyof typeof EVENTS]))
      throw new Violation(
        `${localName} of ${from} in ${at.round}/${at.attempt} was acknowledged and is not durable`,
      );
    const header = this.#books.runs.get(at.run)!.header;
    // What was written down of a round is over with it: later, it may only be refused.
    if (after(header, at) && header.state === "running" && !this.#justClosed(world, at, asked.life))
      throw new Violation(
        `${localName} of ${from} in ${at.round}/${at.attempt} was taken in ${header.round}/${header.attempt}`,
      );
  }

  told({ timeline, life: present }: World, to: string, { word: { word }, life }: Told): void {
    if (word.case === "invite") {
      const { task, attempt, parent } = word.value;
      this.#mustBe(to, { run: task!.run, round: task!.round, attempt });
      this.#mustHold(to, task!.run, parent!);
    }
    if (word.case === "openSession") this.#mustBe(to, word.value.terms!);
    if (word.case === "published") this.#mustHold(to, word.value.run, word.value.manifest!);
    if (word.case === "runOver") {
      const { run, outcome, release } = word.value;
      const book = this.#books.runs.get(run);
      // It may have been resumed since: by another, or while this word was on its way.
      const mayBePast = life !== present || timeline.nowMs - (book?.resumedMs ?? 0) < WOKEN_MS;
      const known = book?.header.state === outcome || (mayBePast && book?.ends.has(outcome));
      if (!known) throw new Violation(`${to} was told that a run is ${outcome}; it is ${book?.header.state}`);
      if (release) this.#mustHold(to, run, release);
    }
  }

  /**
   * An entry and the end of its round may be one event apart, of which the answer is the later; a process
   * that stood still in between may answer when another has taken its place.
   */
  #justClosed({ timeline }: World, { run }: At, life: Asked["life"]): boolean {
    const sinceMs = timeline.nowMs - (this.#closedMs.get(run) ?? Number.NEGATIVE_INFINITY);
    return sinceMs < ONE_EVENT_MS || (life !== undefined && timeline.nowMs - life.wokenMs < WOKEN_MS);
  }

  committed(world: World, run: string, change: { readonly clearJournal?: boolean }): void {
    if (change.clearJournal) this.#closedMs.set(run, world.timeline.nowMs);
  }

  #of(asked: Asked): At | undefined {
    const message = asked.message as unknown as { terms?: At } & At;
    if (message.terms) return message.terms;
    return asked.method.localName === "ready" || asked.method.localName === "decline"
      ? message
      : this.#sessions.of(asked);
  }

  #mustBe(to: string, { run, round, attempt }: At): void {
    const header = this.#books.runs.get(run)?.header;
    const ahead = !header || header.round < round || (header.round === round && header.attempt < attempt);
    if (ahead) throw new Violation(`${to} was told of ${round}/${attempt}, which is not durable`);
  }

  #mustHold(to: string, run: string, manifest: SignedEnvelope): void {
    const digest = sha256Hex(manifest.payload);
    const held = this.#books.runs.get(run)?.releases.some((release) => release?.digest === digest);
    if (!held) throw new Violation(`${to} was told of release ${digest.slice(0, 8)}, which is not durable`);
  }
}
