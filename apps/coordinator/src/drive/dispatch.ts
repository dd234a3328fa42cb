import type { Clock } from "@tutti/foundation/clock";
import { seededRandom } from "@tutti/foundation/random";
import type { Round } from "@tutti/round/round";
import { Schedule } from "@tutti/round/schedule";
import { sameView, viewOf } from "@tutti/round/view";
import type { Instruction } from "@tutti/wire/round";
import type { Driver } from "./driver.ts";
import { MAX_WORD_BYTES, Presence } from "./presence.ts";

/** Of runs that are over, so many of the newest are told to who comes back: it may have missed their end. */
const ENDED_TOLD = 4;

export type DispatchOptions = {
  readonly clock: Clock;
  /** Every run, in the order they were added. */
  readonly drivers: () => readonly Driver[];
  readonly driver: (run: string) => Driver | undefined;
  /** A device came, went, or changed whom it serves. */
  readonly changed: () => void;
};

/**
 * Puts the devices that are here at the disposal of runs, as libs/round/src/schedule.ts decides, and says
 * each its words. All of it follows from who is here and from the runs' journals: a coordinator that comes
 * back finds it again as devices do.
 */
export class Dispatch {
  readonly presence: Presence;
  readonly schedule = new Schedule();
  readonly #options: DispatchOptions;
  /** Each run's round, and its newest release, as of the last look. */
  readonly #seen = new Map<string, { round: Round; parent: Driver["parent"] }>();
  /** Devices that each run ever invited: whom its releases and its end concern. */
  readonly #invited = new Map<string, Set<string>>();
  #alarm = new AbortController();
  #alarmMs = Number.POSITIVE_INFINITY;

  constructor(options: DispatchOptions) {
    this.#options = options;
    const events = {
      onCame: (device: string) => this.#came(device),
      onGone: (device: string) => this.#gone(device),
    };
    this.presence = new Presence(events, options.clock);
  }

  /** A run whose driver is about to start. */
  add({ options, header }: Driver): void {
    const { run } = options;
    this.#invited.set(run, new Set(header.cohort));
    if (header.state !== "running") return;
    this.schedule.addRun(run, 1);
    for (const device of this.presence.present()) this.schedule.standing(device, run, "yes");
  }

  /** A run whose driver could not start. */
  remove(run: string): void {
    this.schedule.removeRun(run);
    this.#seen.delete(run);
  }

  /** After every committed change of a run: says what is new to those whom it concerns, to nobody else. */
  changed(driver: Driver): void {
    const { run } = driver.options;
    const before = this.#seen.get(run);
    const concerned = new Set(this.schedule.serving(run));
    if (driver.round) {
      this.#seen.set(run, { round: driver.round, parent: driver.parent });
      this.#look(driver.round, before?.round);
      for (const device of this.schedule.serving(run)) concerned.add(device);
    } else if (driver.header.state !== "running" && before) {
      this.remove(run);
      this.#deal();
    }
    if (before && (before.parent !== driver.parent || !driver.round))
      for (const device of this.#invited.get(run) ?? []) concerned.add(device);
    for (const device of concerned) this.#tell(device, driver);
  }

  /** The word to a device that asks, as it should within `forMs` again; of its own run until it answers. */
  ask(device: string, forMs: number): Instruction | null {
    const said = this.presence.asked(device, forMs);
    const own = this.schedule.serves(device);
    const driver = own === null ? undefined : this.#options.driver(own);
    return said ?? driver?.wordTo(device) ?? null;
  }

  close(): void {
    this.#alarm.abort();
    this.presence.close();
  }

  #look(round: Round, before: Round | undefined): void {
    const { plan, task, attempt } = round.spec;
    const { run } = task;
    const fresh = before?.spec !== round.spec;
    if (!fresh && sameView(before, round) && !this.schedule.isStuck(run)) return;
    if (before?.invited !== round.invited)
      for (const device of round.invited) this.#invited.get(run)?.add(device);
    const nowMs = this.#options.clock.nowMs();
    const draw = () => seededRandom(`${plan.seed}/${run}/${task.round}/${attempt}/serve`);
    this.schedule.update(run, viewOf(round), { nowMs, ...(fresh && { fresh: draw() }) });
    // A fresh round asks for its devices itself.
    this.#deal(fresh ? run : undefined);
  }

  /** Lets the schedule deal out who is free, and tells runs and devices of it. */
  #deal(fresh?: string): void {
    const { clock, drivers, driver } = this.#options;
    const came = new Map<string, string[]>();
    const moves = this.schedule.deal(clock.nowMs());
    for (const { device, from, to } of moves) {
      if (!this.presence.isHere(device)) continue;
      if (to !== null) {
        for (const other of drivers()) if (other.options.run !== to) other.dismiss([device]);
        came.set(to, [...(came.get(to) ?? []), device]);
      }
      // First what became of the run that it leaves: so it knows that it is free.
      for (const run of [from, to]) {
        const told = run === null ? undefined : driver(run);
        if (told) this.#tell(device, told);
      }
    }
    for (const [run, devices] of came) if (run !== fresh) driver(run)?.welcome(devices);
    this.#arm();
    if (moves.length > 0) this.#options.changed();
  }

  #came(device: string): void {
    const running = this.#options.drivers().filter(({ header }) => header.state === "running");
    this.schedule.here(device, new Map(running.map(({ options }) => [options.run, "yes"])));
    this.#deal();
    this.#greet(device);
    this.#options.changed();
  }

  /** All that a device may have missed: how runs ended, newest releases, and last the word of its own run. */
  #greet(device: string): void {
    const own = this.schedule.serves(device);
    const all = this.#options.drivers();
    const ended = all.filter(({ header }) => header.state !== "running").slice(-ENDED_TOLD);
    const others = all.filter(({ header, options }) => header.state === "running" && options.run !== own);
    for (const driver of [...ended, ...others])
      if (this.#invited.get(driver.options.run)?.has(device)) this.#tell(device, driver);
    const serving = own === null ? undefined : this.#options.driver(own);
    if (serving) this.#tell(device, serving);
  }

  #gone(device: string): void {
    this.schedule.gone(device);
    for (const driver of this.#options.drivers()) driver.dismiss([device]);
    this.#deal();
    this.#options.changed();
  }

  #tell(device: string, driver: Driver): void {
    const word = driver.wordTo(device);
    if (word === null || this.presence.tell(device, driver.options.run, word)) return;
    driver.giveUp(`the word to ${device} is longer than ${MAX_WORD_BYTES} bytes`);
  }

  /** Takes devices back from a run that shows no change for too long. */
  #arm(): void {
    const { clock } = this.#options;
    const { dueMs } = this.schedule;
    if (dueMs >= this.#alarmMs) return;
    this.#alarm.abort();
    this.#alarm = new AbortController();
    this.#alarmMs = dueMs;
    const wake = () => {
      this.#alarmMs = Number.POSITIVE_INFINITY;
      this.#deal();
    };
    clock.sleep(Math.max(0, dueMs - clock.nowMs()), this.#alarm.signal).then(wake, () => {});
  }
}
