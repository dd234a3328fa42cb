import type { Clock } from "@tutti/foundation/clock";
import { seededRandom } from "@tutti/foundation/random";
import type { Facts } from "@tutti/round/eligible";
import type { Window } from "@tutti/round/pace";
import type { Round } from "@tutti/round/round";
import { Schedule } from "@tutti/round/schedule";
import { sameView, viewOf } from "@tutti/round/view";
import { publishedWord } from "@tutti/round/words";
import type { DeviceState } from "@tutti/wire/device";
import type { Instruction } from "@tutti/wire/round";
import type { StoredParticipation } from "../store/store.ts";
import type { Driver } from "./driver.ts";
import { IdleWords, pauseInRound, pauseOf, returnOf } from "./pauses.ts";
import { MAX_WORD_BYTES, Presence } from "./presence.ts";
import { Standings } from "./standings.ts";

/** Of runs that are over, so many of the newest are told to who comes back: it may have missed their end. */
export const ENDED_TOLD = 4;

/** A device's changed state is judged at most once in so long: each change may write to a run's journal. */
export const JUDGE_MS = 1_000;

/** What an idle word is about, among words that are about runs. */
const IDLE = "";
const LONGEST_SLEEP_MS = 2 ** 31 - 1;

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
  readonly standings: Standings;
  readonly #idleWords = new IdleWords();
  /** The run that each device which is here served last. */
  readonly #last = new Map<string, string>();
  /** When each device that is here may be judged anew, and what waits for that. */
  readonly #anew = new Map<string, { fromMs: number; waiting: AbortController | null }>();
  #alarm = new AbortController();
  #alarmMs = Number.POSITIVE_INFINITY;

  constructor(options: DispatchOptions) {
    this.#options = options;
    this.standings = new Standings(this.schedule, () => options.clock.wallMs());
    const events = {
      onCame: (device: string) => this.#came(device),
      onGone: (device: string) => this.#gone(device),
    };
    this.presence = new Presence(events, options.clock);
  }

  /** A run whose driver is about to start, and what its store remembers of devices. */
  add({ options, header }: Driver, past: readonly StoredParticipation[]): void {
    const { run, plan } = options;
    this.standings.add(run, plan, { round: header.round, past });
    for (const device of header.cohort) this.standings.invited(run, device);
    if (header.state !== "running") return;
    this.schedule.addRun(run, plan.share ?? 1);
    this.standings.open(run);
  }

  /** A run whose driver could not start. */
  remove(run: string): void {
    this.schedule.removeRun(run);
    this.standings.forget(run);
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
      for (const device of this.standings.everInvited(run)) concerned.add(device);
    for (const device of concerned) this.#tell(device, driver);
  }

  /** A stream of words to a device. */
  async *listen(device: string, facts: Facts, signal: AbortSignal): AsyncGenerator<Instruction> {
    this.standings.know(device, facts);
    this.standings.afresh(device);
    try {
      yield* this.presence.listen(device, signal);
    } finally {
      // Nothing is kept of one that was not let in.
      if (!this.presence.isHere(device)) this.standings.gone(device);
    }
  }

  /** The word to a device that asks, without a stream; of its own run until it answers. */
  ask(device: string, facts: Facts): { word: Instruction; retry: Window } {
    const before = this.standings.factsOf(device);
    this.standings.know(device, facts);
    // Its next question may be as late as the longest pause that it may have been told of.
    const said = this.presence.asked(device, pauseOf(this.presence.askers + 1).maxMs);
    if (before) this.#judgeAnew(device, false);
    const own = this.schedule.serves(device);
    const driver = own === null ? undefined : this.#options.driver(own);
    const retry = own === null ? pauseOf(this.presence.askers) : pauseInRound(this.presence.askers);
    const word = said ?? (driver && this.#wordOf(device, driver)) ?? this.#idle(device, retry);
    return { word, retry };
  }

  /** What a device says that it is now. */
  changedState(device: string, state: DeviceState): void {
    const facts = this.standings.factsOf(device);
    if (!facts) return;
    this.standings.know(device, { ...facts, state });
    this.#judgeAnew(device, true);
  }

  /** A device took no part in a round of the run, for a reason of its own. */
  declined(device: string, run: string, reason: string): void {
    this.standings.declined(device, run, reason);
    this.#deal();
  }

  /** Judges a device as it is by then: now, or where that was done a moment ago, a moment later. */
  #judgeAnew(device: string, tells: boolean): void {
    const known = this.#anew.get(device);
    if (!known || known.waiting) return;
    const { clock } = this.#options;
    const judge = (says: boolean) => {
      this.#anew.set(device, { fromMs: clock.nowMs() + JUDGE_MS, waiting: null });
      this.standings.here(device);
      this.#deal();
      if (!says) return;
      if (this.schedule.serves(device) === null) this.#tellIdle(device);
      this.#options.changed();
    };
    const waitMs = known.fromMs - clock.nowMs();
    if (waitMs > 0) {
      known.waiting = new AbortController();
      clock.sleep(waitMs, known.waiting.signal).then(
        () => judge(true),
        () => {},
      );
    } else judge(tells);
  }

  #idle(device: string, window: Window): Instruction {
    return this.#idleWords.of(this.standings.whyNone(device) || "no run needs this device now", window);
  }

  close(): void {
    this.#alarm.abort();
    for (const { waiting } of this.#anew.values()) waiting?.abort();
    this.presence.close();
  }

  #look(round: Round, before: Round | undefined): void {
    const { plan, task, attempt } = round.spec;
    const { run } = task;
    const fresh = before?.spec !== round.spec;
    if (fresh && before) this.standings.ended(run, before, task.round);
    if (!fresh && sameView(before, round) && !this.schedule.isStuck(run)) return;
    if (before?.invited !== round.invited)
      for (const device of round.invited) this.standings.invited(run, device);
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
      } else if (from !== null && driver(from)?.round?.phase === "gathering") driver(from)?.dismiss([device]);
      this.#part(device, from, to);
    }
    for (const [run, devices] of came) if (run !== fresh) driver(run)?.welcome(devices);
    this.#arm();
    if (moves.length > 0) this.#options.changed();
  }

  /** First what became of the run that it served last, so that it knows that it is free; then its word. */
  #part(device: string, from: string | null, to: string | null): void {
    const { driver } = this.#options;
    const last = from ?? this.#last.get(device);
    const left = last === undefined ? undefined : driver(last);
    if (left && last !== to) this.#tell(device, left, to !== null);
    if (to === null) return;
    this.#last.set(device, to);
    const joined = driver(to);
    if (joined) this.#tell(device, joined);
  }

  #came(device: string): void {
    // One that comes again within its grace period, or before it, may say of itself what it likes as well.
    if (this.#anew.has(device)) this.#judgeAnew(device, false);
    else {
      this.#anew.set(device, { fromMs: 0, waiting: null });
      this.standings.here(device);
      this.#deal();
    }
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
      if (this.standings.wasInvited(driver.options.run, device)) this.#tell(device, driver);
    const serving = own === null ? undefined : this.#options.driver(own);
    if (serving) this.#tell(device, serving);
    else this.#tellIdle(device);
  }

  /** That there is nothing to do, why, and when to come back should the stream be lost. */
  #tellIdle(device: string): void {
    this.presence.tell(device, IDLE, this.#idle(device, returnOf(this.presence.count)));
  }

  #gone(device: string): void {
    this.#anew.get(device)?.waiting?.abort();
    this.#anew.delete(device);
    this.schedule.gone(device);
    this.standings.gone(device);
    this.#last.delete(device);
    for (const driver of this.#options.drivers()) driver.dismiss([device]);
    this.#deal();
    this.#options.changed();
  }

  /** A run's releases and its end are no concern of a device that it never invited. */
  #wordOf(device: string, driver: Driver): Instruction | null {
    return this.#concerns(device, driver) ? driver.wordTo(device) : null;
  }

  #concerns(device: string, { options, round }: Driver): boolean {
    return round?.invited.has(device) || this.standings.wasInvited(options.run, device);
  }

  #tell(device: string, driver: Driver, leaves = false): void {
    const due = this.#wordOf(device, driver);
    // Its round is over for a device that goes to another run, though there be nothing more to say of it.
    const parting = leaves && due === null && this.#concerns(device, driver);
    const word = parting ? publishedWord(driver.options.run, driver.parent) : due;
    if (word === null || this.presence.tell(device, driver.options.run, word)) return;
    driver.giveUp(`the word to ${device} is longer than ${MAX_WORD_BYTES} bytes`);
  }

  /**
   * Devices that serve runs, and how soon they answer a PING; 0 for one that did not say so of the run that
   * it serves. What that run's model and rows hold it up for is not known until it went through a round.
   */
  *serving(): Generator<[device: string, withinMs: number]> {
    for (const { options } of this.#options.drivers())
      for (const device of this.schedule.serving(options.run)) {
        const said = this.presence.answering.get(device);
        yield [device, said?.run === options.run ? said.withinMs : 0];
      }
  }

  /** Wakes when a run has shown no change for too long, or somebody's rest ends. */
  #arm(): void {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    const dueMs = Math.min(this.schedule.dueMs, nowMs + this.standings.dueMs - clock.wallMs());
    if (dueMs >= this.#alarmMs) return;
    this.#alarm.abort();
    this.#alarm = new AbortController();
    this.#alarmMs = dueMs;
    const wake = () => {
      this.#alarmMs = Number.POSITIVE_INFINITY;
      this.standings.wake();
      this.#deal();
    };
    const waitMs = Math.min(Math.max(0, dueMs - nowMs), LONGEST_SLEEP_MS);
    clock.sleep(waitMs, this.#alarm.signal).then(wake, () => {});
  }
}
