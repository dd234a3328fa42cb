import { demand } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import type { SecretRandom } from "@tutti/foundation/random";
import { shortened } from "@tutti/foundation/text";
import type { Verify } from "@tutti/identity/keys";
import { parsePlan } from "@tutti/plan/plan";
import { MAX_REASON } from "@tutti/round/state";
import type { Agree } from "@tutti/secagg/agree";
import type { RunHeader } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import type { Artifacts } from "../artifacts.ts";
import type { Federation } from "../folder/federation.ts";
import type { Log } from "../observe/log.ts";
import { logTrouble } from "../observe/trouble.ts";
import { Notices } from "../registry/notices.ts";
import { Registry } from "../registry/registry.ts";
import type { Store, StoredRun } from "../store/store.ts";
import { backOffMs, isPassing } from "./backoff.ts";
import { completer } from "./complete.ts";
import { Dispatch, ENDED_TOLD } from "./dispatch.ts";
import { Driver } from "./driver.ts";
import type { LiftElsewhere } from "./open.ts";
import type { Activity } from "./presence.ts";
import { type Keeping, needs, Retention } from "./retention.ts";
import { Revoking } from "./revoking.ts";
import { decodeHeader, runStoreOf } from "./run-store.ts";
import { Starting } from "./starting.ts";

export type CoordinatorParts = {
  readonly store: Store;
  readonly artifacts: Artifacts;
  readonly federation: Federation;
  readonly clock: Clock;
  readonly random: SecretRandom;
  readonly verify: Verify;
  /** A faster X25519 than the portable one. */
  readonly agree?: Agree;
  /** Unmasks on other threads than this. */
  readonly lift?: LiftElsewhere;
  /** Told of what no caller hears of: storage that failed, and bugs. */
  readonly log: Log;
  readonly holdMs?: number;
  /** The certificates, DER, that are shown in TLS: this process's, then those of others. */
  readonly shown?: () => readonly Uint8Array[];
  /** What stays of old rounds and of the audit log; everything, where it is not said. */
  readonly kept?: Keeping;
};

type Taking = {
  /** Who drove it until it was over. */
  readonly before?: Driver | undefined;
  /** Whether who comes back may have missed how it goes. */
  readonly remembers?: boolean;
  /** Whether the log says that it goes on. */
  readonly tells?: boolean;
};

/** The runs of a federation and the devices that are here; handlers translate messages into its calls. */
export class Coordinator {
  readonly parts: CoordinatorParts;
  readonly dispatch: Dispatch;
  readonly registry: Registry;
  readonly notices: Notices;
  readonly #drivers = new Map<string, Driver>();
  readonly #revoking: Revoking;
  readonly retention: Retention;
  /** Runs that `find` refuses: storage did not give them back yet, or they are about to be driven anew. */
  readonly #missing = new Set<string>();
  readonly #closing = new AbortController();
  readonly #watchers = new Set<() => void>();
  readonly #starting: Starting;

  constructor(parts: CoordinatorParts) {
    this.parts = parts;
    this.registry = new Registry(parts);
    this.notices = new Notices({ ...parts, onNews: (notice) => this.presence.remark(notice) });
    this.dispatch = new Dispatch({
      clock: parts.clock,
      drivers: () => this.drivers(),
      driver: (run) => this.#drivers.get(run),
      changed: () => this.#tellWatchers(),
    });
    this.#revoking = new Revoking({
      ...parts,
      notices: this.notices,
      presence: () => this.presence,
      drivers: () => this.drivers(),
    });
    this.retention = new Retention({
      ...parts,
      kept: parts.kept ?? {},
      isInUse: (sha256) =>
        this.drivers().some(({ options, header }) => needs(options.plan, header).includes(sha256)),
    });
    this.#starting = new Starting({
      ...parts,
      retention: this.retention,
      trust: () => this.#trust(),
      drivers: () => this.drivers(),
      find: (run) => this.find(run),
      driver: (run) => this.driver(run),
      withhold: (run) => this.#withhold(run),
      drive: (run) => this.#driveAnew(run),
    });
  }

  get presence() {
    return this.dispatch.presence;
  }

  /**
   * Takes up every run that the store knows, in the order they were added. One that cannot be taken up holds
   * no other up: it is reported, and tried again for as long as storage may give it back.
   */
  async start(): Promise<void> {
    await this.notices.start();
    const runs = (await this.parts.store.runs()).filter(({ state }) => state !== "preparing");
    // Of older ones nobody is told any more.
    const told = new Set(runs.filter(({ state }) => state !== "running").slice(-ENDED_TOLD));
    const failed: unknown[] = [];
    // Before any of them goes on and throws old files away.
    for (const stored of runs) await this.#claim(stored);
    for (const stored of runs) {
      const remembers = stored.state === "running" || told.has(stored);
      const error = await this.#takeUp(stored, { remembers });
      if (error !== null) failed.push(error);
    }
    // If storage gave no run back at all, do not lead: fail, and be started again. A damaged run is no
    // reason: another start mends nothing, and new runs can begin beside it.
    if (runs.length > 0 && failed.length === runs.length && failed.every(isPassing)) throw failed[0];
    for (const stored of runs.filter(({ run }) => this.#missing.has(run))) {
      const remembers = stored.state === "running" || told.has(stored);
      this.#takeUpLater(() => this.#takeUp(stored, { remembers }), stored.run).catch(() => {});
    }
  }

  /** Keeps what a run needs until it is driven, however long that takes. */
  async #claim({ run, plan, header }: StoredRun): Promise<void> {
    try {
      const { payload } = decode(SignedEnvelopeSchema, plan, MAX_MESSAGE_BYTES);
      await this.retention.claim(run, needs(parsePlan(payload), decodeHeader(header)));
    } catch {
      // A row that cannot be read names no file; taking the run up says what is wrong with it.
    }
  }

  /** Returns what went wrong, which the log tells; null for a run that is driven. */
  async #takeUp(
    { run, plan, header }: StoredRun,
    { before, remembers = true, tells = true }: Taking = {},
  ): Promise<unknown> {
    try {
      const driver = this.#drivers.get(run);
      const envelope = decode(SignedEnvelopeSchema, plan, MAX_MESSAGE_BYTES);
      if (driver && driver !== before) await this.#revoking.dismissFrom(driver);
      else {
        const taken = await this.#drive(run, { envelope, header: decodeHeader(header), remembers });
        if (tells) this.#tellTaken(taken);
      }
      this.#missing.delete(run);
      this.retention.release(run);
      return null;
    } catch (error) {
      if (isPassing(error)) this.#missing.add(run);
      else this.#missing.delete(run);
      logTrouble(this.parts.log.of({ run: run.slice(0, 12) }), error, { doing: "taking up a run" });
      return error;
    }
  }

  /** Logs only a round in progress: of a run that is over nothing goes on. */
  #tellTaken({ options, header, round }: Driver): void {
    if (header.state !== "running" || round === null) return;
    const { task, attempt } = round.spec;
    options.log.say("run.taken", { round: task.round, attempt, phase: round.phase });
  }

  /** A run that storage did not give back: its round has a deadline, which waits for no restart. */
  async #takeUpLater(takeUp: () => Promise<unknown>, run: string): Promise<void> {
    for (let failures = 1; this.#missing.has(run); failures++) {
      await this.parts.clock.sleep(backOffMs(failures), this.#closing.signal);
      await takeUp();
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#revoking.close();
    this.dispatch.close();
    const begun = this.#starting.close();
    await Promise.all([...this.#drivers.values()].map((driver) => driver.shutdown()));
    await begun;
    await this.retention.close();
  }

  /** In the order that their runs were added. */
  drivers(): Driver[] {
    return [...this.#drivers.values()];
  }

  /** The run of this id, if there is one. @throws Fault("unavailable") for one that is not taken up yet. */
  find(run: string): Driver | undefined {
    demand(
      !this.#missing.has(run),
      () => new Fault("unavailable", `run ${run.slice(0, 12)}`, { todo: "Ask again" }),
    );
    return this.#drivers.get(run);
  }

  driver(run: string): Driver {
    const driver = this.find(run);
    if (driver) return driver;
    throw new Fault("not-found", `run ${run.slice(0, 12)}`, {
      todo: "List the runs with `tutti run status`",
    });
  }

  /** Starts a run from its owner's signed plan; the same plan again is the same run. */
  startRun(envelope: SignedEnvelope, by = "owner"): Promise<string> {
    return this.#starting.start(envelope, by);
  }

  /**
   * A run that failed or was stopped goes on, with as many attempts at its round again; one in progress does.
   * @throws Fault("conflict") for one that is finished.
   */
  resumeRun(run: string, by = "owner"): Promise<void> {
    return this.#starting.resume(run, by);
  }

  /** Whether nobody can say how a run is until storage was asked. */
  isWithheld(run: string): boolean {
    return this.#missing.has(run);
  }

  async #withhold(run: string): Promise<void> {
    this.#missing.add(run);
    await this.#drivers.get(run)?.shutdown();
  }

  /** A run that is begun or resumed, from what is durable, in place of who drove it until it was over. */
  async #driveAnew(run: string): Promise<void> {
    await this.#withhold(run);
    const before = this.#drivers.get(run);
    const error = await this.#takeUpAnew(run, { before, tells: false });
    if (error === null) return;
    this.#takeUpLater(() => this.#takeUpAnew(run, { before, tells: true }), run).catch(() => {});
    throw error;
  }

  /** Stays withheld where it fails, whatever was in the way: what is durable of it is to be driven. */
  async #takeUpAnew(run: string, how: { before: Driver | undefined; tells: boolean }): Promise<unknown> {
    const error = await this.#takeUpDurable(run, how);
    if (error !== null) this.#missing.add(run);
    return error;
  }

  async #takeUpDurable(run: string, how: { before: Driver | undefined; tells: boolean }): Promise<unknown> {
    const { store, log } = this.parts;
    try {
      // Waits for every write of it under way, though whoever asked for that was told nothing.
      await store.journal(run);
      const stored = await store.run(run);
      if (stored === undefined) throw new Fault("not-found", `run ${run.slice(0, 12)}`);
      return await this.#takeUp(stored, how);
    } catch (error) {
      logTrouble(log.of({ run: run.slice(0, 12) }), error, { doing: "taking up a run" });
      return error;
    }
  }

  /**
   * A device whose requests are refused from now on, and that is out of every round in progress before this
   * returns; with the owner's list that says so, other devices hear of it too.
   * @throws Fault("not-found") for a name that nobody enrolled; Fault("unavailable") where storage fails for
   * so long that nobody can say: ask again.
   */
  async revoke(device: string, envelope?: SignedEnvelope, by = "owner"): Promise<void> {
    await this.#revoking.revoke(device, envelope, by);
    this.parts.log.say("device.revoked", { device, by });
  }

  /** Calls back after every committed change of any run, and when a device comes, goes or reports. */
  watch(callback: () => void): () => void {
    this.#watchers.add(callback);
    return () => this.#watchers.delete(callback);
  }

  /** What a device says it does; that changes no word, so only those who watch hear of it. */
  reported(device: string, activity: Activity): void {
    this.presence.activities.set(device, activity);
    this.#tellWatchers();
  }

  /** A device took no part in a round: its owner's run may wait for it, so both logs and status say why. */
  declined(device: string, { run, round }: { run: string; round: number }, reason: string): void {
    this.parts.log.of({ run: run.slice(0, 12) }).say("round.declined", { device, round, reason });
    this.dispatch.declined(device, run, reason);
    this.reported(device, { run, activity: "", progress: 0, declined: reason });
  }

  #tellWatchers(): void {
    for (const callback of this.#watchers) callback();
  }

  async #drive(
    run: string,
    given: { envelope: SignedEnvelope; header: RunHeader; remembers?: boolean },
  ): Promise<Driver> {
    const { envelope, header, remembers = true } = given;
    const { store, clock, random, agree, holdMs } = this.parts;
    const log = this.parts.log.of({ run: run.slice(0, 12) });
    // Its signature was checked when the run started; the owner's certificate may expire during a long run.
    const plan = parsePlan(envelope.payload);
    const newest = await store.newestRelease(run);
    if (!newest)
      throw new Fault("storage", `run ${run.slice(0, 12)}`, {
        expected: "at least one release",
        got: "none",
      });
    const past = remembers ? await store.participations(run) : [];
    const shelf = this.retention.shelf(run);
    // No await from here to `set`: `close` is seen here, or sees the driver.
    if (this.#closing.signal.aborted) throw new Fault("unavailable", "the coordinator is shutting down");
    const before = this.#drivers.get(run);
    const driver: Driver = new Driver({
      run,
      plan,
      planEnvelope: envelope,
      header,
      parent: decode(SignedEnvelopeSchema, newest.envelope, MAX_MESSAGE_BYTES),
      store: runStoreOf(store, run, shelf),
      trust: () => ({ ...this.#trust(), ...(agree && { agree }) }),
      clock,
      random,
      complete: completer({
        ...this.parts,
        ...this.parts.federation.coordinator,
        artifacts: shelf.artifacts,
        log,
      }),
      present: () => [...this.dispatch.schedule.serving(run)],
      waits: () => this.dispatch.schedule.waits(run),
      whyFew: (reason) => shortened([reason, ...this.dispatch.standings.out(run)].join("; "), MAX_REASON),
      changed: () => {
        this.dispatch.changed(driver);
        this.#tellWatchers();
      },
      log,
      ...(holdMs !== undefined && { holdMs }),
    });
    this.#drivers.set(run, driver);
    this.dispatch.add(driver, past);
    try {
      await driver.start();
    } catch (cause) {
      await driver.shutdown();
      if (before) this.#drivers.set(run, before);
      else this.#drivers.delete(run);
      this.dispatch.remove(run);
      throw cause;
    }
    await this.#revoking.dismissFrom(driver);
    return driver;
  }

  #trust() {
    const { federation, clock, verify } = this.parts;
    return { authority: federation.authority, nowS: Math.floor(clock.wallMs() / 1000), verify };
  }
}
