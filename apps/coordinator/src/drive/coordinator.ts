import { demand } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { asFault, Fault, type FaultCode } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { SecretRandom } from "@tutti/foundation/random";
import type { Verify } from "@tutti/identity/keys";
import { type Plan, parsePlan } from "@tutti/plan/plan";
import { releaseOf, signRelease } from "@tutti/release/manifest";
import { openPlan } from "@tutti/release/plan";
import { checkPrivacy } from "@tutti/round/privacy";
import { firstHeader } from "@tutti/round/run";
import type { Agree } from "@tutti/secagg/agree";
import { type RunHeader, RunHeaderSchema } from "@tutti/wire/journal";
import { decode, encode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import type { Artifacts } from "../artifacts.ts";
import { failpoint } from "../failpoint.ts";
import type { Federation } from "../folder/federation.ts";
import type { Log } from "../observe/log.ts";
import { logTrouble } from "../observe/trouble.ts";
import { Notices } from "../registry/notices.ts";
import { Registry } from "../registry/registry.ts";
import type { Store, StoredRun } from "../store/store.ts";
import { backOffMs } from "./backoff.ts";
import { completer, type SignedRelease } from "./complete.ts";
import { Dispatch, ENDED_TOLD } from "./dispatch.ts";
import { Driver } from "./driver.ts";
import { decodeHeader, ledgerOf } from "./ledger.ts";
import type { LiftElsewhere } from "./open.ts";
import { over } from "./over.ts";
import type { Activity } from "./presence.ts";
import { type Keeping, mustHave, needs, Retention } from "./retention.ts";
import { Revoking } from "./revoking.ts";

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
  /** How many rounds' files stay; all, where it is not said. */
  readonly kept?: Keeping;
};

/** A run that no store has as running. */
type Beginning = { run: string; plan: Plan; envelope: SignedEnvelope; isKnown: boolean; by: string };

/** An invitation holds the signed plan beside the newest manifest and the task, in one message. */
const MAX_PLAN_BYTES = 512 << 10;

/** What may be otherwise the next time. */
const PASSING: ReadonlySet<FaultCode> = new Set<FaultCode>(["storage", "unavailable"]);

function isPassing(error: unknown): boolean {
  return PASSING.has(asFault(error).code);
}

/** Each keeps a round and its journal at hand. */
const MAX_RUNNING = 64;

/** The runs of a federation and the devices that are here; handlers translate messages into its calls. */
export class Coordinator {
  readonly parts: CoordinatorParts;
  readonly dispatch: Dispatch;
  readonly registry: Registry;
  readonly notices: Notices;
  readonly #drivers = new Map<string, Driver>();
  readonly #revoking: Revoking;
  readonly retention: Retention;
  /** Runs that storage did not give back yet. */
  readonly #missing = new Set<string>();
  readonly #closing = new AbortController();
  readonly #watchers = new Set<() => void>();
  #starting: Promise<unknown> = Promise.resolve();

  constructor(parts: CoordinatorParts) {
    this.parts = parts;
    this.registry = new Registry(parts);
    this.notices = new Notices({ ...parts, onNews: (notice) => this.presence.remark(notice) });
    this.dispatch = new Dispatch({
      clock: parts.clock,
      drivers: () => this.drivers(),
      driver: (run) => this.#drivers.get(run),
      changed: () => this.#watched(),
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
      const error = await this.#takeUp(stored, stored.state === "running" || told.has(stored));
      if (error !== null) failed.push(error);
    }
    // Storage that gives nothing back just now is no coordinator to be; for a damaged run the next start is
    // no better, and keeps nobody from starting another.
    if (runs.length > 0 && failed.length === runs.length && failed.every(isPassing)) throw failed[0];
    for (const stored of runs) if (this.#missing.has(stored.run)) this.#takeUpLater(stored).catch(() => {});
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

  /** What went wrong, where it did. */
  async #takeUp({ run, plan, header }: StoredRun, remembers = true): Promise<unknown> {
    try {
      const driver = this.#drivers.get(run);
      const envelope = decode(SignedEnvelopeSchema, plan, MAX_MESSAGE_BYTES);
      if (driver) await this.#revoking.dismissFrom(driver);
      else this.#tellTaken(await this.#drive(run, { envelope, header: decodeHeader(header), remembers }));
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

  /** Of one that is over nothing goes on. */
  #tellTaken({ options, header, round }: Driver): void {
    if (header.state !== "running" || round === null) return;
    const { task, attempt } = round.spec;
    options.log.say("run.taken", { round: task.round, attempt, phase: round.phase });
  }

  /** A run that storage did not give back: its round has a deadline, which waits for no restart. */
  async #takeUpLater(stored: StoredRun): Promise<void> {
    for (let failures = 1; this.#missing.has(stored.run); failures++) {
      await this.parts.clock.sleep(backOffMs(failures), this.#closing.signal);
      await this.#takeUp(stored);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#revoking.close();
    this.dispatch.close();
    await Promise.all([...this.#drivers.values()].map((driver) => driver.shutdown()));
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
  async startRun(envelope: SignedEnvelope, by = "owner"): Promise<string> {
    // One after the other: two at once would both find no run in progress, or drive one run twice.
    const started = this.#starting.then(() => this.#startRun(envelope, by));
    this.#starting = started.catch(() => {});
    return started;
  }

  async #startRun(envelope: SignedEnvelope, by: string): Promise<string> {
    const planBytes = encode(SignedEnvelopeSchema, envelope);
    demand(
      planBytes.length <= MAX_PLAN_BYTES,
      () =>
        new Fault("bad-input", "plan", {
          expected: `at most ${MAX_PLAN_BYTES} bytes, so that an invitation can hold it`,
          got: `${planBytes.length}`,
        }),
    );
    const { plan, run } = openPlan(envelope, this.#trust());
    const same = this.#drivers.get(run);
    if (same?.header.state === "running") return run;
    if (same) throw over(plan.name, same.header.state);
    const running = this.drivers().filter(({ header }) => header.state === "running").length;
    demand(
      running < MAX_RUNNING,
      () =>
        new Fault("conflict", "run", {
          expected: `fewer than ${MAX_RUNNING} runs in progress`,
          got: `${running}`,
          todo: "Stop one or wait",
        }),
    );
    checkPrivacy(plan);
    const known = await this.parts.store.run(run);
    try {
      if (known && known.state !== "preparing") {
        // It was started, and storage failed before anybody could be told.
        await this.#claim(known);
        await mustHave(this.parts.artifacts, plan);
        await this.#drive(run, { envelope, header: decodeHeader(known.header) });
      } else {
        await this.retention.claim(run, [plan.base.sha256, plan.initial.sha256]);
        await mustHave(this.parts.artifacts, plan);
        await this.#begin({ run, plan, envelope, isKnown: known !== undefined, by });
      }
      this.retention.release(run);
    } catch (error) {
      // Where storage failed the run may be there all the same, and will need them.
      if (!PASSING.has(asFault(error).code)) this.retention.release(run);
      throw error;
    }
    return run;
  }

  async #begin(given: Beginning): Promise<void> {
    const { run, plan, envelope, isKnown, by } = given;
    const { store } = this.parts;
    const planBytes = encode(SignedEnvelopeSchema, envelope);
    failpoint("run.checked");
    const first = this.#initialRelease(run, plan);
    const header = firstHeader({ version: 0, manifest: first.digest, adapter: plan.initial.sha256 });
    const headerBytes = encode(RunHeaderSchema, header);
    if (!isKnown)
      await store.addRun({ run, name: plan.name, plan: planBytes, header: headerBytes, state: "preparing" });
    const release = {
      version: 0,
      digest: first.digest,
      envelope: encode(SignedEnvelopeSchema, first.envelope),
    };
    const { name, rounds } = plan;
    const note = { actor: by, what: "run.started", subject: run, detail: { name, rounds } };
    await store.commit(run, { header: headerBytes, state: "running", release, note });
    failpoint("run.running");
    await this.#drive(run, { envelope, header });
    failpoint("run.driven");
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
    this.#watched();
  }

  /** A device took no part in a round: its owner's run may wait for it, so both logs and status say why. */
  declined(device: string, { run, round }: { run: string; round: number }, reason: string): void {
    this.parts.log.say("round.declined", { device, run, round, reason });
    this.dispatch.declined(device, run, reason);
    this.reported(device, { run, activity: "", progress: 0, declined: reason });
  }

  #watched(): void {
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
    const driver: Driver = new Driver({
      run,
      plan,
      planEnvelope: envelope,
      header,
      parent: decode(SignedEnvelopeSchema, newest.envelope, MAX_MESSAGE_BYTES),
      ledger: ledgerOf(store, run, shelf),
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
      changed: () => {
        this.dispatch.changed(driver);
        this.#watched();
      },
      log,
      ...(holdMs !== undefined && { holdMs }),
    });
    this.#drivers.set(run, driver);
    this.dispatch.add(driver, past);
    try {
      await driver.start();
    } catch (cause) {
      this.#drivers.delete(run);
      this.dispatch.remove(run);
      throw cause;
    }
    await this.#revoking.dismissFrom(driver);
    return driver;
  }

  #initialRelease(run: string, plan: Plan): SignedRelease {
    const release = releaseOf(plan, {
      run,
      version: 0,
      round: 0,
      adapter: plan.initial,
      parent: null,
      cohorts: [],
      transcript: null,
      wallMs: this.parts.clock.wallMs(),
    });
    const envelope = signRelease(release, this.parts.federation.coordinator);
    return { version: 0, digest: sha256Hex(envelope.payload), envelope };
  }

  #trust() {
    const { federation, clock, verify } = this.parts;
    return { authority: federation.authority, nowS: Math.floor(clock.wallMs() / 1000), verify };
  }
}
