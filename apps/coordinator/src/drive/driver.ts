import { assert, demand, unreachable } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import { madeAtS } from "@tutti/release/manifest";
import { owedAfter } from "@tutti/round/excuse";
import { rhoAtRisk } from "@tutti/round/price";
import { abandon, beginRound, type Effect, lacksNoise, type Round, step } from "@tutti/round/round";
import { afterFailure, afterStop, taskOf } from "@tutti/round/run";
import { publishedWord, wordTo as wordInRound } from "@tutti/round/words";
import type { JournalEntry, RunHeader } from "@tutti/wire/journal";
import { create } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import { type Instruction, InstructionSchema } from "@tutti/wire/round";
import { failpoint } from "../failpoint.ts";
import { logTrouble } from "../observe/trouble.ts";
import { backOffMs } from "./backoff.ts";
import { type Batch, takeBatch } from "./batch.ts";
import { Completion } from "./completion.ts";
import { Deadline } from "./deadline.ts";
import type { DriverOptions } from "./options.ts";
import { shuttingDown } from "./over.ts";
import type { Closing } from "./run-store.ts";
import { type Sums, type Upload, unconfirmed, type Waiting } from "./waiting.ts";
import { Worker } from "./worker.ts";

/** How long devices of a round may take to come back after the coordinator did; idle ones may take longer. */
export const RECONNECT_MS = 12_000;

/**
 * Performs what libs/round decides, for one run. Entries that arrive while a transaction is being written
 * wait and share the next one (group commit); an entry is acknowledged only when its transaction is durable,
 * and what devices are told is derived from committed state alone.
 */
export class Driver {
  header: RunHeader;
  parent: SignedEnvelope;
  /** The round as of the last commit; null once the run is over. */
  round: Round | null = null;
  readonly options: DriverOptions;
  #sums: Sums = new Map();
  readonly #worker: Worker;
  #isShutDown = false;
  /** Ends every wait when the driver shuts down. */
  readonly #ending = new AbortController();
  readonly #deadline: Deadline;
  /** Of storage, in a row: reading may work where writing does not, so only a write ends the row. */
  #failures = 0;
  readonly #completion: Completion;

  constructor(options: DriverOptions) {
    this.options = options;
    this.header = options.header;
    this.parent = options.parent;
    const { complete, clock, holdMs = 0 } = options;
    this.#worker = new Worker({
      clock,
      holdMs,
      round: () => this.round,
      commit: (waiting) => this.#commit(waiting),
      onIdle: () => {
        if (!this.#isShutDown) this.#deadline.arm(this.round);
      },
      onBug: (bug) => this.#trouble(bug, "performing"),
    });
    this.#deadline = new Deadline({
      clock,
      waits: options.waits ?? (() => false),
      say: (event) => this.#say("", { case: event, value: true }),
    });
    this.#completion = new Completion({
      complete,
      sleep: (ms) => clock.sleep(ms, this.#ending.signal),
      onFailure: (error, againMs) =>
        options.log.say("round.retried", { doing: "completing a round", againMs }, error),
    });
  }

  /** Begins, or after a crash resumes, the header's round; a stop meanwhile waits until it is read. */
  async start(): Promise<void> {
    const resumed = await this.#worker.exclusively(() => this.#load());
    if (!resumed) return;
    this.#say("", { case: "recovered", value: true });
    this.options.clock.sleep(RECONNECT_MS, this.#ending.signal).then(
      () => this.#missAbsent(),
      () => {},
    );
  }

  /** Takes up what is durable: true where a round was in progress. */
  async #load(): Promise<boolean> {
    failpoint("load.begin");
    const { header, parent, entries, sums } = await this.options.store.read();
    failpoint("load.read");
    this.header = header;
    this.parent = parent;
    this.#sums = sums;
    this.round = header.state === "running" ? this.#replay(entries) : null;
    failpoint("load.replayed");
    this.options.changed();
    if (this.round === null) return false;
    if (entries.length === 0) {
      this.#begin();
      return false;
    }
    this.welcome(this.options.present());
    failpoint("load.welcomed");
    // The crash may have come between the last commit and its effect; both effects are idempotent.
    const { phase, reason } = this.round;
    if (phase === "unmasking") this.#perform([{ kind: "complete" }]);
    if (phase === "failed") this.#perform([{ kind: "fail", reason }]);
    return true;
  }

  /** The round that the journal tells of. Where an entry is refused now, by other code, the attempt ends. */
  #replay(entries: readonly JournalEntry[]): Round {
    let round = this.#freshRound(entries[0]);
    try {
      for (const entry of entries) [round] = step(round, entry);
      return round;
    } catch (cause) {
      if (!(cause instanceof Fault)) this.#trouble(cause, "replaying the journal");
      return abandon(round, `its journal does not replay: ${asFault(cause).message}`);
    }
  }

  /** Resolves when the entry is durable and counted; rejects with the Fault that refuses it. */
  submit(device: string, event: JournalEntry["event"], upload?: Upload): Promise<void> {
    if (this.#isShutDown) return Promise.reject(shuttingDown());
    return new Promise((resolve, reject) => {
      this.#worker.submit({ device, event, upload, settle: { resolve, reject } });
    });
  }

  /**
   * Devices that are at this run's disposal from now on. Strangers first: once all who are expected are here
   * the round invites, and whom it invites must be here.
   */
  welcome(devices: readonly string[]): void {
    const expected = new Set(this.header.cohort);
    const strangers = devices.filter((device) => !expected.has(device));
    for (const device of [...strangers, ...devices.filter((device) => expected.has(device))])
      this.#say(device, { case: "connected", value: true });
  }

  /** Devices that are here no longer, or at another run's disposal. */
  dismiss(devices: readonly string[]): void {
    for (const device of devices) {
      if (this.round?.connected.has(device)) this.#say(device, { case: "disconnected", value: true });
    }
  }

  /** What one device should hear now, derived from committed state; null: nothing, it waits. */
  wordTo(device: string): Instruction | null {
    const { run, planEnvelope } = this.options;
    const { round } = this;
    if (round === null) {
      const { state: outcome, reason } = this.header;
      // Its journal is still being read; or another goes on with it.
      if (outcome === "running" || this.#isShutDown) return null;
      return create(InstructionSchema, {
        word: { case: "runOver", value: { run, outcome, reason, release: this.parent } },
      });
    }
    if (round.invited.has(device))
      return wordInRound(device, round, { plan: planEnvelope, parent: this.parent });
    return publishedWord(run, this.parent);
  }

  /** Ends the run by an owner's wish; the round in progress is dropped and reveals nothing. */
  async stop(by = "owner"): Promise<void> {
    await this.#worker.exclusively(async () => {
      failpoint("run.stopping");
      if (this.header.state === "running")
        await this.#closeRound(afterStop(this.header, this.#rhoAtRisk()), { by });
    });
    failpoint("run.stopped");
    demand(
      this.header.state !== "running",
      () => new Fault("unavailable", "storage", { todo: "Stop it again" }),
    );
  }

  /** Fails the present attempt by name, between two commits; its devices reveal nothing. */
  giveUp(reason: string): void {
    const spec = this.round?.spec;
    this.#worker.between(async () => {
      if (this.round !== null && this.round.spec === spec) await this.#closeRound(this.#afterFailure(reason));
    });
  }

  /** Lets the present transaction finish; nothing more is accepted. */
  async shutdown(): Promise<void> {
    this.#isShutDown = true;
    this.#ending.abort();
    this.#deadline.off();
    await this.#worker.finish();
  }

  async #commit(waiting: readonly Waiting[]): Promise<void> {
    const committed = {
      round: this.round,
      sums: this.#sums,
      nowMs: this.options.clock.nowMs(),
      runState: this.header.state,
    };
    await this.#write(
      takeBatch(waiting, committed, (bug, { event, device }) =>
        this.#trouble(bug, `taking ${event.case} by ${device}`),
      ),
    );
  }

  async #write({ round, accepted, entries, effects, changed }: Batch): Promise<void> {
    try {
      if (entries.length > 0) {
        await this.options.store.append(entries, changed);
        for (const { event } of entries) if (event.case) failpoint(`ack.${event.case}`);
        this.#failures = 0;
      }
    } catch (cause) {
      // "Unknown", never "no": the batch may be on disk.
      for (const { settle } of accepted) settle.reject(unconfirmed(cause));
      return this.#reload(cause, "writing the journal");
    }
    this.round = round;
    this.#sums = new Map([...this.#sums, ...changed]);
    for (const { settle } of accepted) settle.resolve();
    if (entries.length > 0) this.options.changed();
    failpoint("round.told");
    this.#perform(effects);
  }

  #perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      failpoint("round.performing");
      switch (effect.kind) {
        case "add-vector":
          break; // It was, in its entry's transaction.
        case "complete":
          void this.#complete();
          break;
        case "fail":
          this.#fail(effect.reason);
          break;
        default:
          unreachable(effect);
      }
    }
  }

  async #complete(): Promise<void> {
    const { round } = this;
    assert(round !== null, "what is complete is a round");
    if (lacksNoise(round)) return this.#say("", { case: "noise", value: this.options.random.bytes(32) });
    try {
      const papers = { plan: this.options.planEnvelope, parent: this.parent };
      const done = await this.#completion.of(round, { header: this.header, sums: this.#sums, papers });
      await this.#worker.exclusively(async () => {
        failpoint("complete.done");
        if (this.#isStill(round, "unmasking")) await this.#closeRound(done.header, { release: done.release });
      });
    } catch (error) {
      this.#completion.forget();
      if (!this.#isShutDown) this.#trouble(error, "completing a round");
      if (this.#isStill(round, "unmasking")) this.#say("", { case: "broken", value: asFault(error).message });
    }
  }

  /** Late messages may have made a new state of the same attempt meanwhile; a stopped run has none. */
  #isStill({ spec }: Round, phase: Round["phase"]): boolean {
    return this.round?.spec === spec && this.round.phase === phase;
  }

  #afterFailure(reason: string): RunHeader {
    const owed = this.round ? owedAfter(this.round) : new Map<string, number>();
    const why = this.round?.invited.size ? reason : (this.options.whyFew?.(reason) ?? reason);
    return afterFailure(this.options.plan, this.header, { reason: why, rho: this.#rhoAtRisk(), owed });
  }

  #rhoAtRisk(): number {
    return this.round ? rhoAtRisk(this.round) : 0;
  }

  #fail(reason: string): void {
    const { round } = this;
    assert(round !== null, "what failed is a round");
    this.#worker.between(async () => {
      failpoint("round.failing");
      if (this.#isStill(round, "failed")) await this.#closeRound(this.#afterFailure(reason));
    });
  }

  /** Writes the header and begins the next round, if there is one; only ever in a job of the worker's. */
  async #closeRound(header: RunHeader, { release, by }: Pick<Closing, "release" | "by"> = {}): Promise<void> {
    if (this.#isShutDown) return;
    let kept: RunHeader;
    try {
      const { store, clock } = this.options;
      kept = await store.close(header, { round: this.round, wallMs: clock.wallMs(), release, by });
    } catch (cause) {
      return this.#reload(cause, "closing a round");
    }
    failpoint("round.closed");
    this.#failures = 0;
    this.#completion.forget();
    this.header = kept;
    if (release) this.parent = release.envelope;
    this.#sums = new Map();
    this.round = header.state === "running" ? this.#freshRound() : null;
    this.options.changed();
    failpoint("round.begun");
    this.#begin();
  }

  /** Replayed, the round counts from its `first` entry, and certificates as of then. */
  #freshRound(first?: JournalEntry): Round {
    const { run, plan, clock } = this.options;
    const { header } = this;
    const task = taskOf(run, plan, header);
    const { attempt, cohort, owed } = header;
    const spec = { plan, task, attempt, expected: new Set(cohort), owed: new Map(Object.entries(owed)) };
    const trust = this.options.trust();
    const nowMs = first?.nowMs ?? clock.nowMs();
    // A clock that was set back: a round is not before what it begins from, or nobody could verify it.
    const nowS = first?.checkedAtS || Math.max(trust.nowS, madeAtS(this.parent));
    return beginRound(spec, { connected: [], nowMs, trust: { ...trust, nowS } });
  }

  /** A fresh round's first entry fixes the moment that its deadlines count from, also for a replay. */
  #begin(): void {
    if (this.round === null) return;
    const settle = { resolve: () => {}, reject: () => {} };
    this.#worker.submitFirst({
      device: "",
      event: { case: "recovered", value: true },
      upload: undefined,
      settle,
    });
    this.welcome(this.options.present());
  }

  /** Devices of before the crash that did not come back are waited for no longer. */
  #missAbsent(): void {
    const here = new Set(this.options.present());
    this.dismiss([...(this.round?.connected ?? [])].filter((device) => !here.has(device)));
  }

  /** An entry of the coordinator's own; nobody waits for its acknowledgement. */
  #say(device: string, event: JournalEntry["event"]): void {
    this.submit(device, event).catch(() => {});
  }

  /** After a write that may be on disk: only reading it again can tell (docs/reliability.md, promise 1). */
  async #reload(failure: unknown, doing: string): Promise<void> {
    let [cause, what] = [failure, doing];
    while (!this.#isShutDown) {
      const againMs = backOffMs(++this.#failures);
      this.#trouble(cause, what, againMs);
      try {
        await this.options.clock.sleep(againMs, this.#ending.signal);
        await this.#load();
        // Whoever left while nothing could be written down.
        return this.#missAbsent();
      } catch (again) {
        [cause, what] = [again, "reading the journal"];
        this.#refuseAll(cause);
      }
    }
    // Nobody knows what is on disk now: what waits is not written behind it.
    this.#refuseAll(cause);
  }

  #refuseAll(cause: unknown): void {
    for (const { settle } of this.#worker.takeBack()) settle.reject(unconfirmed(cause));
  }

  #trouble(error: unknown, doing: string, againMs?: number): void {
    logTrouble(this.options.log, error, { doing, againMs });
  }
}
