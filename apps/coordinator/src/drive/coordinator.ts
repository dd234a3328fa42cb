import type { SignedEnvelope } from "@tutti/wire/release";
import { Notices } from "../registry/notices.ts";
import { Registry } from "../registry/registry.ts";
import { Dispatch } from "./dispatch.ts";
import type { Driver } from "./driver.ts";
import type { CoordinatorParts } from "./parts.ts";
import type { Activity } from "./presence.ts";
import { needs, Retention } from "./retention.ts";
import { Revoking } from "./revoking.ts";
import { Runs } from "./runs.ts";
import { Starting } from "./starting.ts";

/** The runs of a federation and the devices that are here; handlers translate messages into its calls. */
export class Coordinator {
  readonly parts: CoordinatorParts;
  readonly dispatch: Dispatch;
  readonly registry: Registry;
  readonly notices: Notices;
  readonly #revoking: Revoking;
  readonly retention: Retention;
  readonly #watchers = new Set<() => void>();
  readonly #runs: Runs;
  readonly #starting: Starting;

  constructor(parts: CoordinatorParts) {
    this.parts = parts;
    this.registry = new Registry(parts);
    this.notices = new Notices({ ...parts, onNews: (notice) => this.presence.remark(notice) });
    this.dispatch = new Dispatch({
      clock: parts.clock,
      drivers: () => this.drivers(),
      driver: (run) => this.#runs.inHand(run),
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
    const shared = { ...parts, retention: this.retention, trust: () => this.#trust() };
    this.#runs = new Runs({
      ...shared,
      dispatch: this.dispatch,
      dismissFrom: (driver) => this.#revoking.dismissFrom(driver),
      changed: () => this.#tellWatchers(),
    });
    this.#starting = new Starting({ ...shared, runs: this.#runs });
  }

  get presence() {
    return this.dispatch.presence;
  }

  /** See Runs.start. */
  async start(): Promise<void> {
    await this.notices.start();
    await this.#runs.start();
  }

  async close(): Promise<void> {
    this.#revoking.close();
    this.dispatch.close();
    const begun = this.#starting.close();
    await this.#runs.close();
    await begun;
    await this.retention.close();
  }

  /** See Runs.drivers. */
  drivers(): Driver[] {
    return this.#runs.drivers();
  }

  /** See Runs.find. */
  find(run: string): Driver | undefined {
    return this.#runs.find(run);
  }

  /** See Runs.driver. */
  driver(run: string): Driver {
    return this.#runs.driver(run);
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

  /** See Runs.isWithheld. */
  isWithheld(run: string): boolean {
    return this.#runs.isWithheld(run);
  }

  /**
   * A device whose requests are refused from now on, and that is out of every round in progress before this
   * returns; with the owner's list that says so, other devices hear of it too.
   * @throws Fault("not-found") for a name that nobody enrolled; Fault("unavailable") where storage fails for
   * so long that nobody can say: ask again.
   */
  async revoke(device: string, envelope?: SignedEnvelope, by = "owner"): Promise<void> {
    const isNew = await this.#revoking.revoke(device, envelope, by);
    if (isNew) this.parts.log.say("device.revoked", { device, by });
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

  #trust() {
    const { federation, clock, verify } = this.parts;
    return { authority: federation.authority, nowS: Math.floor(clock.wallMs() / 1000), verify };
  }
}
