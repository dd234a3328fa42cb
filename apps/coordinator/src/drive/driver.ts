import { assert } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { addInto } from "@tutti/kernels/ring";
import type { Plan } from "@tutti/plan/plan";
import { beginRound, type Effect, type Round, step } from "@tutti/round/round";
import { afterFailure, afterStop, taskOf } from "@tutti/round/run";
import type { Trust } from "@tutti/round/summing";
import { wordTo } from "@tutti/round/words";
import { type JournalEntry, JournalEntrySchema, type RunHeader } from "@tutti/wire/journal";
import { create } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type Instruction, InstructionSchema } from "@tutti/wire/round";
import type { Complete, SignedRelease } from "./complete.ts";
import type { Ledger } from "./ledger.ts";

export type DriverOptions = {
  readonly run: string;
  readonly plan: Plan;
  readonly planEnvelope: SignedEnvelope;
  readonly header: RunHeader;
  /** The newest release's signed manifest. */
  readonly parent: SignedEnvelope;
  readonly ledger: Ledger;
  readonly trust: () => Trust;
  readonly clock: Clock;
  readonly complete: Complete;
  readonly present: () => string[];
  /** After every committed change. */
  readonly changed: () => void;
};

/** How long devices may take to come back after the coordinator did. */
const RECONNECT_MS = 5_000;

type Waiting = {
  readonly device: string;
  readonly event: JournalEntry["event"];
  readonly vector: Uint32Array | undefined;
  readonly settle: { resolve(): void; reject(reason: unknown): void };
};

/**
 * Performs what libs/round decides, for one run. Entries that arrive while a transaction is being written wait and
 * share the next one (group commit); an entry is acknowledged only when its transaction is durable, and what
 * devices are told is derived from committed state alone.
 */
export class Driver {
  header: RunHeader;
  parent: SignedEnvelope;
  /** The round as of the last commit; null once the run is over. */
  round: Round | null = null;
  readonly options: DriverOptions;
  #sum: Uint32Array | null = null;
  #queue: Waiting[] = [];
  readonly #jobs: (() => Promise<void>)[] = [];
  #working: Promise<void> = Promise.resolve();
  #busy = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #missing: NodeJS.Timeout | undefined;

  constructor(options: DriverOptions) {
    this.options = options;
    this.header = options.header;
    this.parent = options.parent;
  }

  /** Begins, or after a crash resumes, the header's round. */
  async start(): Promise<void> {
    if (this.header.state !== "running") return;
    const { entries, sum } = await this.options.ledger.read();
    let round = this.#freshRound(entries[0]?.nowMs);
    for (const entry of entries) [round] = step(round, entry);
    this.round = round;
    this.#sum = sum ?? null;
    if (entries.length === 0) return this.#welcome();
    this.#say("", { case: "recovered", value: true });
    this.#missing = setTimeout(() => this.#missAbsent(), RECONNECT_MS);
    // A crash may have come between the last commit and its effect; both effects are idempotent.
    if (round.phase === "unmasking") this.#perform([{ kind: "complete" }]);
    if (round.phase === "failed") this.#perform([{ kind: "fail", reason: round.reason }]);
  }

  /** Resolves when the entry is durable and counted; rejects with the Fault that refuses it. */
  submit(device: string, event: JournalEntry["event"], vector?: Uint32Array): Promise<void> {
    if (this.#closed) return Promise.reject(new Fault("unavailable", "the coordinator is shutting down"));
    return new Promise((resolve, reject) => {
      this.#queue.push({ device, event, vector, settle: { resolve, reject } });
      this.#wake();
    });
  }

  /** What one device should hear now, derived from committed state; null: nothing, it waits. */
  wordTo(device: string): Instruction | null {
    const { run, planEnvelope } = this.options;
    const { round } = this;
    if (round === null) {
      const { state: outcome, reason } = this.header;
      return create(InstructionSchema, {
        word: { case: "runOver", value: { run, outcome, reason, release: this.parent } },
      });
    }
    if (round.invited.has(device)) return wordTo(device, round, { plan: planEnvelope, parent: this.parent });
    return create(InstructionSchema, { word: { case: "published", value: { run, manifest: this.parent } } });
  }

  /** Ends the run by its owner's wish; the round in progress is dropped and reveals nothing. */
  async stop(): Promise<void> {
    await this.#exclusively(async () => {
      if (this.header.state === "running") await this.#close(afterStop(this.header));
    });
  }

  /** Lets the present transaction finish; nothing more is accepted. */
  async shutdown(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#missing);
    await this.#working;
  }

  /** Runs a job between two commits, so that no entry falls between a round and its successor. */
  #exclusively(job: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#jobs.push(() => job().then(resolve, reject));
      this.#wake();
    });
  }

  #wake(): void {
    if (this.#busy) return;
    this.#busy = true;
    this.#working = this.#work();
  }

  async #work(): Promise<void> {
    // One turn of the event loop, so that messages read together are written together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#queue.length > 0 || this.#jobs.length > 0) {
      const job = this.#jobs.shift();
      await (job ? job() : this.#commit(this.#queue.splice(0)));
    }
    // In the same turn as the last look at the queue: what comes from now on wakes the worker again.
    this.#busy = false;
    this.#arm();
  }

  async #commit(batch: readonly Waiting[]): Promise<void> {
    const nowMs = this.options.clock.nowMs();
    let round = this.round;
    const accepted: Waiting[] = [];
    const entries: JournalEntry[] = [];
    const effects: Effect[] = [];
    let sum: Uint32Array | undefined;
    for (const item of batch) {
      try {
        if (round === null)
          throw new Fault("conflict", "run", { expected: "running", got: this.header.state });
        const entry = create(JournalEntrySchema, { nowMs, device: item.device, event: item.event });
        const [next, more] = step(round, entry);
        accepted.push(item);
        if (next === round) continue;
        round = next;
        entries.push(entry);
        sum = this.#addVectors(more, item, sum);
        effects.push(...more);
      } catch (fault) {
        item.settle.reject(asFault(fault));
      }
    }
    await this.#write({ round, accepted, entries, effects, sum });
  }

  async #write(change: {
    round: Round | null;
    accepted: readonly Waiting[];
    entries: readonly JournalEntry[];
    effects: readonly Effect[];
    sum: Uint32Array | undefined;
  }): Promise<void> {
    const { round, accepted, entries, effects, sum } = change;
    try {
      if (entries.length > 0) await this.options.ledger.append(entries, sum);
    } catch (cause) {
      // "Unknown", never "no": the batch may be on disk. Only reading it again can tell (RELIABILITY promise 1).
      for (const { settle } of accepted)
        settle.reject(new Fault("unavailable", "storage", { cause, todo: "Send it again" }));
      return this.#reload();
    }
    this.round = round;
    if (sum) this.#sum = sum;
    for (const { settle } of accepted) settle.resolve();
    if (entries.length > 0) this.options.changed();
    this.#perform(effects);
  }

  /** The running sum with the vector that the machine just accepted; copied first, since a commit may fail. */
  #addVectors(
    effects: readonly Effect[],
    item: Waiting,
    sum: Uint32Array | undefined,
  ): Uint32Array | undefined {
    if (!effects.some((effect) => effect.kind === "add-vector")) return sum;
    assert(item.vector !== undefined, "an accepted upload has its vector");
    const next = sum ?? this.#sum?.slice() ?? new Uint32Array(item.vector.length);
    addInto(next, item.vector);
    return next;
  }

  #perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.kind === "complete") void this.#complete();
      if (effect.kind === "fail") void this.#fail(effect.reason);
    }
  }

  async #complete(): Promise<void> {
    const { round } = this;
    assert(round !== null && this.#sum !== null, "a complete round has a sum");
    try {
      const { header, release } = await this.options.complete(round, { header: this.header, sum: this.#sum });
      await this.#exclusively(async () => {
        if (this.#isStill(round)) await this.#close(header, release);
      });
    } catch (error) {
      this.#say("", { case: "broken", value: asFault(error).message });
    }
  }

  /** Late shares may have made a new state of the same attempt meanwhile; a stopped run has none. */
  #isStill({ spec }: Round): boolean {
    return this.round?.spec === spec && this.round.phase === "unmasking";
  }

  async #fail(reason: string): Promise<void> {
    await this.#exclusively(() => this.#close(afterFailure(this.options.plan, this.header, reason)));
  }

  /** Writes the header and begins the next round, if there is one; only ever inside #exclusively. */
  async #close(header: RunHeader, release?: SignedRelease): Promise<void> {
    if (this.#closed) return;
    try {
      await this.options.ledger.close(header, release);
    } catch {
      return this.#reload();
    }
    this.header = header;
    if (release) this.parent = release.envelope;
    this.#sum = null;
    this.round = header.state === "running" ? this.#freshRound() : null;
    this.options.changed();
    this.#welcome();
  }

  #freshRound(nowMs = this.options.clock.nowMs()): Round {
    const { run, plan, trust } = this.options;
    const { header } = this;
    const spec = {
      plan,
      task: taskOf(run, plan, header),
      attempt: header.attempt,
      expected: new Set(header.cohort),
    };
    return beginRound(spec, { connected: [], nowMs, trust: trust() });
  }

  #welcome(): void {
    if (this.round === null) return;
    for (const device of this.options.present()) this.#say(device, { case: "connected", value: true });
    this.#arm();
  }

  /** Devices of before the crash that did not come back are waited for no longer. */
  #missAbsent(): void {
    const here = new Set(this.options.present());
    for (const device of this.round?.connected ?? []) {
      if (!here.has(device)) this.#say(device, { case: "disconnected", value: true });
    }
  }

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#closed || this.round === null || !Number.isFinite(this.round.deadlineMs)) return;
    const waitMs = Math.max(1, this.round.deadlineMs - this.options.clock.nowMs());
    this.#timer = setTimeout(
      () => this.#say("", { case: "tick", value: true }),
      Math.min(waitMs, 2 ** 31 - 1),
    );
  }

  /** An entry of the coordinator's own; nobody waits for its acknowledgement. */
  #say(device: string, event: JournalEntry["event"]): void {
    this.submit(device, event).catch(() => {});
  }

  async #reload(): Promise<void> {
    this.#sum = null;
    await this.start();
  }
}
