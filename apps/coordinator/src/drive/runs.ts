import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { shortened } from "@tutti/foundation/text";
import { parsePlan } from "@tutti/plan/plan";
import { MAX_REASON } from "@tutti/round/state";
import type { RunHeader } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import type { Log } from "../observe/log.ts";
import { logTrouble } from "../observe/trouble.ts";
import type { StoredRun } from "../store/store.ts";
import { backOffMs, isPassing } from "./backoff.ts";
import { completer } from "./complete.ts";
import { type Dispatch, ENDED_TOLD } from "./dispatch.ts";
import { Driver } from "./driver.ts";
import { shuttingDown } from "./over.ts";
import type { RunParts } from "./parts.ts";
import { needs } from "./retention.ts";
import { decodeHeader, runStoreOf } from "./run-store.ts";

export type RunsParts = RunParts & {
  readonly dispatch: Dispatch;
  /** Devices that were revoked are out of this run's round when this returns. */
  readonly dismissFrom: (driver: Driver) => Promise<void>;
  /** After every committed change of any run. */
  readonly changed: () => void;
};

type Taking = {
  /** Who drove it until it was over. */
  readonly before?: Driver | undefined;
  /** Whether who comes back may have missed how it goes. */
  readonly remembers?: boolean;
  /** Whether the log says that it goes on. */
  readonly tells?: boolean;
};

/** A run as the store has it, read. */
type Documents = { readonly envelope: SignedEnvelope; readonly header: RunHeader };

/** The driver of each run, made from what the store has of the run. */
export class Runs {
  readonly #parts: RunsParts;
  /** In the order of the store. A run that nobody drives yet has its place: one taken up late is no newer. */
  readonly #drivers = new Map<string, Driver | null>();
  /** Runs that `find` refuses: storage did not give them back yet, or they are about to be driven anew. */
  readonly #withheld = new Set<string>();
  readonly #closing = new AbortController();

  constructor(parts: RunsParts) {
    this.#parts = parts;
  }

  /**
   * Takes up every run that the store knows, in the order they were added. One that cannot be taken up holds
   * no other up: it is reported, and tried again for as long as storage may give it back.
   * @throws what storage said, where it gave none of them back.
   */
  async start(): Promise<void> {
    const known = await this.#parts.store.runs();
    for (const { run } of known) this.#drivers.set(run, null);
    const runs = known.filter(({ state }) => state !== "preparing");
    // Of older ones nobody is told any more.
    const told = new Set(runs.filter(({ state }) => state !== "running").slice(-ENDED_TOLD));
    const remembers = (stored: StoredRun) => stored.state === "running" || told.has(stored);
    const failed: unknown[] = [];
    // Before any of them goes on and throws old files away.
    for (const stored of runs) await this.#claim(stored);
    for (const stored of runs) {
      const error = await this.#takeUp(stored, { remembers: remembers(stored) });
      if (error !== null) failed.push(error);
    }
    // If storage gave no run back at all, do not lead: fail, and be started again. A damaged run is no
    // reason: another start mends nothing, and new runs can begin beside it.
    if (runs.length > 0 && failed.length === runs.length && failed.every(isPassing)) throw failed[0];
    for (const stored of runs.filter(({ run }) => this.#withheld.has(run))) {
      const again = () => this.#takeUp(stored, { remembers: remembers(stored) });
      this.#takeUpLater(again, stored.run).catch(() => {});
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.drivers().map((driver) => driver.shutdown()));
  }

  /** In the order that their runs were added. */
  drivers(): Driver[] {
    return [...this.#drivers.values()].filter((driver) => driver !== null);
  }

  /** Who drives this run, or drove it before it was withheld. */
  inHand(run: string): Driver | undefined {
    return this.#drivers.get(run) ?? undefined;
  }

  /** The run of this id, if there is one. @throws Fault("unavailable") for one that is not taken up yet. */
  find(run: string): Driver | undefined {
    demand(
      !this.#withheld.has(run),
      () => new Fault("unavailable", `run ${run.slice(0, 12)}`, { todo: "Ask again" }),
    );
    return this.inHand(run);
  }

  /** The same. @throws Fault("not-found") where there is none. */
  driver(run: string): Driver {
    const driver = this.find(run);
    if (driver) return driver;
    throw new Fault("not-found", `run ${run.slice(0, 12)}`, {
      todo: "List the runs with `tutti run status`",
    });
  }

  /** Whether nobody can say how a run is until storage was asked. */
  isWithheld(run: string): boolean {
    return this.#withheld.has(run);
  }

  /** Nobody is told of a run until it is driven anew, and who drives it does no more. */
  async withhold(run: string): Promise<void> {
    this.#withheld.add(run);
    await this.inHand(run)?.shutdown();
  }

  /**
   * A run that is begun or resumed, from what is durable, in place of who drove it until it was over.
   * @throws what was in the way; the run is withheld then, and tried again.
   */
  async driveAnew(run: string): Promise<void> {
    await this.withhold(run);
    const before = this.inHand(run);
    const error = await this.#takeUpAnew(run, { before, tells: false });
    if (error === null) return;
    this.#takeUpLater(() => this.#takeUpAnew(run, { before, tells: true }), run).catch(() => {});
    throw error;
  }

  /** Keeps what a run needs until it is driven, however long that takes. */
  async #claim({ run, plan, header }: StoredRun): Promise<void> {
    try {
      const { payload } = decode(SignedEnvelopeSchema, plan, MAX_MESSAGE_BYTES);
      await this.#parts.retention.claim(run, needs(parsePlan(payload), decodeHeader(header)));
    } catch {
      // A row that cannot be read names no file; taking the run up says what is wrong with it.
    }
  }

  /** Returns what went wrong, which the log tells; null for a run that is driven. */
  async #takeUp(
    { run, plan, header }: StoredRun,
    { before, remembers = true, tells = true }: Taking,
  ): Promise<unknown> {
    const { retention, dismissFrom } = this.#parts;
    try {
      const driver = this.inHand(run);
      const envelope = decode(SignedEnvelopeSchema, plan, MAX_MESSAGE_BYTES);
      if (driver && driver !== before) await dismissFrom(driver);
      else {
        const taken = await this.#drive(run, { envelope, header: decodeHeader(header) }, remembers);
        if (tells) tellTaken(taken);
      }
      this.#withheld.delete(run);
      retention.unclaim(run);
      return null;
    } catch (error) {
      if (isPassing(error)) this.#withheld.add(run);
      else this.#withheld.delete(run);
      logTrouble(this.#log(run), error, { doing: "taking up a run" });
      return error;
    }
  }

  /** A run that storage did not give back: its round has a deadline, which waits for no restart. */
  async #takeUpLater(takeUp: () => Promise<unknown>, run: string): Promise<void> {
    for (let failures = 1; this.#withheld.has(run); failures++) {
      await this.#parts.clock.sleep(backOffMs(failures), this.#closing.signal);
      await takeUp();
    }
  }

  /** From the store, whatever it has; withheld where that fails, whatever was in the way. */
  async #takeUpAnew(run: string, how: { before: Driver | undefined; tells: boolean }): Promise<unknown> {
    const { store } = this.#parts;
    let error: unknown;
    try {
      // Waits for every write of it under way, though whoever asked for that was told nothing.
      await store.journal(run);
      const stored = await store.run(run);
      if (stored === undefined) throw new Fault("not-found", `run ${run.slice(0, 12)}`);
      error = await this.#takeUp(stored, how);
    } catch (cause) {
      logTrouble(this.#log(run), cause, { doing: "taking up a run" });
      error = cause;
    }
    if (error !== null) this.#withheld.add(run);
    return error;
  }

  async #drive(run: string, documents: Documents, remembers: boolean): Promise<Driver> {
    const { store, dispatch, dismissFrom } = this.#parts;
    const newest = await store.newestRelease(run);
    if (!newest)
      throw new Fault("storage", `run ${run.slice(0, 12)}`, {
        expected: "at least one release",
        got: "none",
      });
    const past = remembers ? await store.participations(run) : [];
    // No await from here to `set`: `close` is seen here, or sees the driver.
    if (this.#closing.signal.aborted) throw shuttingDown();
    const before = this.inHand(run) ?? null;
    const driver = this.#driverOf(
      run,
      documents,
      decode(SignedEnvelopeSchema, newest.envelope, MAX_MESSAGE_BYTES),
    );
    this.#drivers.set(run, driver);
    dispatch.add(driver, past);
    try {
      await driver.start();
    } catch (cause) {
      await driver.shutdown();
      this.#drivers.set(run, before);
      dispatch.remove(run);
      throw cause;
    }
    await dismissFrom(driver);
    return driver;
  }

  /** Not started. `parent`: the newest release's signed manifest. */
  #driverOf(run: string, { envelope, header }: Documents, parent: SignedEnvelope): Driver {
    const { store, retention, dispatch, trust, changed, clock, random, agree, holdMs } = this.#parts;
    const log = this.#log(run);
    const shelf = retention.shelf(run);
    const driver: Driver = new Driver({
      run,
      // Its signature was checked when the run started; the owner's certificate may expire during a long run.
      plan: parsePlan(envelope.payload),
      planEnvelope: envelope,
      header,
      parent,
      store: runStoreOf(store, run, shelf),
      trust: () => ({ ...trust(), ...(agree && { agree }) }),
      clock,
      random,
      complete: completer({
        ...this.#parts,
        ...this.#parts.federation.coordinator,
        artifacts: shelf.artifacts,
        log,
      }),
      present: () => [...dispatch.schedule.serving(run)],
      waits: () => dispatch.schedule.waits(run),
      whyFew: (reason) => shortened([reason, ...dispatch.standings.out(run)].join("; "), MAX_REASON),
      changed: () => {
        dispatch.changed(driver);
        changed();
      },
      log,
      ...(holdMs !== undefined && { holdMs }),
    });
    return driver;
  }

  #log(run: string): Log {
    return this.#parts.log.of({ run: run.slice(0, 12) });
  }
}

/** Logs only a round in progress: of a run that is over nothing goes on. */
function tellTaken({ options, header, round }: Driver): void {
  if (header.state !== "running" || round === null) return;
  const { task, attempt } = round.spec;
  options.log.say("run.taken", { round: task.round, attempt, phase: round.phase });
}
