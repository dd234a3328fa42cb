import { assert } from "@tutti/foundation/check";
import { type SeededRandom, seededRandom } from "@tutti/foundation/random";
import { Pool } from "./pool.ts";

/**
 * Which device is at which run's disposal, where several runs share a federation. A device serves one run at
 * a time; a run asks for devices while its round gathers, keeps those that its round is engaged with, and
 * lets go of them when the round is over or needs them no more.
 *
 * Who is served first: start-time fair queuing (Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM
 * 1996, section 2.1) with device-milliseconds over the run's weight as the length of a packet. A run that
 * could have been served while others were, twice as often as its weight says, is overdue: it is next, and
 * devices that become free are reserved for it, as the head of a queue with backfilling has them (Lifka, "The
 * ANL/IBM SP Scheduling System", JSSPP 1995). So no run starves (test/schedule.test.ts).
 *
 * Deterministic: time and dice are arguments. Unlike a round it changes in place, since its state is as large
 * as the federation and an event is about one device: no event costs work for devices that nobody asks for.
 */
export type Standing = "yes" | "later" | "no";

/** What a run's round wants and holds. */
export type View = {
  /** Null while it takes no further devices; those of `first` are asked before others. */
  readonly need: {
    readonly fewest: number;
    readonly most: number;
    readonly first?: Iterable<string>;
  } | null;
  /** Devices whose answer or whose vector it counts on, here or not. */
  readonly engaged: ReadonlySet<string>;
  /** When its present phase closes by itself. */
  readonly untilMs: number;
};

/** A device that goes from one run's disposal to another's; null: nobody's. */
export type Move = { readonly device: string; readonly from: string | null; readonly to: string | null };

type Run = {
  readonly name: string;
  readonly order: number;
  readonly weight: number;
  view: View;
  draw: SeededRandom;
  /** At its disposal, and here. */
  readonly serving: Set<string>;
  /** May serve it, here, and serve nobody. */
  readonly free: Pool;
  /** Of the devices that are here: may serve it, and will be able to later. */
  eligible: number;
  later: number;
  /** Device-ms received over weight; at least the virtual time when it last began to wait. */
  tag: number;
  could: boolean;
  /** How often others were served with devices of its own since it began to wait. */
  passed: number;
  /** Its place among those that are overdue; none: infinity. */
  overdue: number;
  /** When it last showed a change, or got the devices that it needs. */
  sinceMs: number;
  /** Past its deadline by so much that nobody drives it: it gets nothing until it shows a change. */
  stuck: boolean;
};

type Device = { readonly may: Map<Run, Standing>; serves: Run | null };

const NOTHING: View = { need: null, engaged: new Set(), untilMs: Number.POSITIVE_INFINITY };

/** How long after its deadline a round may still hold devices: its coordinator may be busy storing. */
export const STUCK_MS = 30_000;

export class Schedule {
  readonly #runs = new Map<string, Run>();
  readonly #devices = new Map<string, Device>();
  #moves = new Map<string, Move>();
  #nowMs = 0;
  #virtual = 0;
  #orders = 0;
  #overdue = 0;
  /** Devices looked at, in all: what tests count. */
  looked = 0;

  addRun(name: string, weight: number): void {
    assert(!this.#runs.has(name), "a run is added once");
    this.#runs.set(name, {
      name,
      weight,
      order: this.#orders++,
      view: NOTHING,
      draw: seededRandom(name),
      serving: new Set(),
      free: new Pool(),
      eligible: 0,
      later: 0,
      tag: this.#virtual,
      could: false,
      passed: 0,
      overdue: Number.POSITIVE_INFINITY,
      sinceMs: this.#nowMs,
      stuck: false,
    });
  }

  has(name: string): boolean {
    return this.#runs.has(name);
  }

  /** A run that is over; its devices are free. */
  removeRun(name: string): void {
    const run = this.#runs.get(name);
    if (!run) return;
    for (const device of [...run.serving]) this.#assign(device, null);
    for (const { may } of this.#devices.values()) may.delete(run);
    this.#runs.delete(name);
  }

  /**
   * What a run's round wants now. `fresh`: a round that knows no device yet, though it may be engaged with
   * some; its own dice draw who serves it.
   */
  update(name: string, view: View, { nowMs, fresh }: { nowMs: number; fresh?: SeededRandom }): void {
    this.#charge(nowMs);
    const run = this.#known(name);
    run.view = view;
    run.stuck = false;
    run.sinceMs = this.#nowMs;
    if (fresh) {
      run.draw = fresh;
      for (const device of [...run.serving]) this.#assign(device, null);
    }
    for (const device of view.engaged) {
      this.looked++;
      if (this.#devices.get(device)?.serves === null) this.#assign(device, run);
    }
    if (view.need !== null) return;
    for (const device of [...run.serving]) {
      this.looked++;
      if (!view.engaged.has(device)) this.#assign(device, null);
    }
  }

  /** A device that is here, and which runs it may serve; said again when that changes. */
  here(device: string, may: ReadonlyMap<string, Standing>): void {
    if (!this.#devices.has(device)) this.#devices.set(device, { may: new Map(), serves: null });
    for (const run of this.#runs.values()) this.standing(device, run.name, may.get(run.name) ?? "no");
    if (this.#devices.get(device)?.serves) return;
    const engaged = [...this.#runs.values()].find(({ view }) => view.engaged.has(device));
    if (engaged) this.#assign(device, engaged);
  }

  /** Whether a device that is here may serve a run. One that its round is engaged with stays all the same. */
  standing(device: string, name: string, standing: Standing): void {
    const [run, known] = [this.#known(name), this.#devices.get(device)];
    if (!known) return;
    this.looked++;
    this.#count(run, known.may.get(run), -1);
    known.may.set(run, standing);
    this.#count(run, standing, 1);
    if (standing !== "yes") {
      run.free.delete(device);
      if (known.serves === run && !run.view.engaged.has(device)) this.#assign(device, null);
    } else if (known.serves === null) run.free.add(device);
  }

  gone(device: string): void {
    const known = this.#devices.get(device);
    if (!known) return;
    this.#assign(device, null);
    for (const [run, standing] of known.may) {
      run.free.delete(device);
      this.#count(run, standing, -1);
    }
    this.#devices.delete(device);
  }

  /** The run that a device serves. */
  serves(device: string): string | null {
    return this.#devices.get(device)?.serves?.name ?? null;
  }

  /** The devices at a run's disposal that are here; of a run that is over, none. */
  serving(name: string): ReadonlySet<string> {
    return this.#runs.get(name)?.serving ?? new Set();
  }

  /** Of the devices that are here, how many may serve a run now. */
  eligible(name: string): number {
    return this.#runs.get(name)?.eligible ?? 0;
  }

  /** Whether a run is short of devices that would do, and are here: it waits for others to let go of them. */
  waits(name: string): boolean {
    const run = this.#runs.get(name);
    if (!run) return false;
    return isShort(run) && !run.stuck && run.eligible + run.later >= (run.view.need?.fewest ?? 0);
  }

  /** Whether its devices were taken from it because it showed no change. */
  isStuck(name: string): boolean {
    return this.#runs.get(name)?.stuck ?? false;
  }

  /** When a run's devices are taken from it unless it shows a change; infinity for none. */
  get dueMs(): number {
    return Math.min(...[...this.#runs.values()].map(stuckFromMs));
  }

  /** Deals out the devices that are free, and says who moved since it was last asked. */
  deal(nowMs: number): Move[] {
    this.#charge(nowMs);
    this.#reclaim(nowMs);
    const waiting = [...this.#runs.values()].filter(({ view, stuck }) => view.need !== null && !stuck);
    for (const run of waiting) this.#noteCould(run);
    waiting.sort(byPrecedence);
    // Nothing was said to the devices of a round that has too few.
    for (const run of waiting.filter(isShort))
      for (const device of [...run.serving]) this.#assign(device, null);
    const served = waiting.filter((run) => this.#complete(run));
    this.#share(waiting);
    for (const run of waiting.filter((run) => isShort(run) && run.could))
      for (const { serving } of served) this.#pass(run, serving);
    // Nobody can do with what is left: it stays at hand of whoever waits, and visible there.
    for (const run of waiting) if (isShort(run)) this.#take(run, lackOf(run));
    const moves = [...this.#moves.values()].filter(({ from, to }) => from !== to);
    this.#moves = new Map();
    return moves;
  }

  /** Time that devices spent on rounds that have as many as they need. */
  #charge(nowMs: number): void {
    const ms = Math.max(0, nowMs - this.#nowMs);
    this.#nowMs = Math.max(nowMs, this.#nowMs);
    const served = [...this.#runs.values()].filter((run) => run.serving.size > 0 && !isShort(run));
    if (served.length === 0) return;
    this.#virtual = Math.max(this.#virtual, Math.min(...served.map(({ tag }) => tag)));
    for (const run of served) run.tag += (ms * run.serving.size) / run.weight;
  }

  /** A run that nobody drives any more holds up no other. */
  #reclaim(nowMs: number): void {
    for (const run of this.#runs.values()) {
      if (nowMs < stuckFromMs(run)) continue;
      run.stuck = true;
      run.view = NOTHING;
      for (const device of [...run.serving]) this.#assign(device, null);
    }
  }

  /** Who could not be served saved nothing up meanwhile. */
  #noteCould(run: Run): void {
    const could = run.eligible >= (run.view.need?.fewest ?? 0);
    if (could && !run.could) run.tag = Math.max(run.tag, this.#virtual);
    if (!could) [run.passed, run.overdue] = [0, Number.POSITIVE_INFINITY];
    run.could = could;
  }

  /** As many as its round needs at least, all at once: true then. An overdue run takes what there is. */
  #complete(run: Run): boolean {
    const lack = lackOf(run);
    if (lack === 0 || (run.free.size < lack && !isOverdue(run))) return false;
    this.#take(run, lack);
    if (isShort(run)) return false;
    [run.passed, run.overdue] = [0, Number.POSITIVE_INFINITY];
    run.sinceMs = this.#nowMs;
    // A round costs a millisecond at least, so that those that cost nothing take turns too.
    run.tag += run.serving.size / run.weight;
    return true;
  }

  #pass(run: Run, served: ReadonlySet<string>): void {
    const own = [...served].some((device) => this.#devices.get(device)?.may.get(run) === "yes");
    if (!own || isOverdue(run)) return;
    run.passed++;
    const weights = [...this.#runs.values()].reduce((sum, { weight }) => sum + weight, 0);
    if (run.passed * run.weight >= 2 * weights) run.overdue = this.#overdue++;
  }

  /** One after another to whoever has the least for its weight. */
  #share(waiting: readonly Run[]): void {
    const takes = (run: Run) =>
      !isShort(run) && run.free.size > 0 && run.serving.size < (run.view.need?.most ?? 0);
    for (let open = waiting.filter(takes); open.length > 0; open = open.filter(takes)) {
      const [least] = open.sort((a, b) => a.serving.size / a.weight - b.serving.size / b.weight);
      if (least) this.#take(least, 1);
    }
  }

  #take(run: Run, count: number): void {
    const first = [...(run.view.need?.first ?? [])].filter((device) => run.free.has(device));
    for (let at = 0; at < count; at++) {
      const device = first[at] ?? run.free.draw(run.draw);
      if (device === undefined) return;
      this.#assign(device, run);
    }
  }

  #assign(device: string, to: Run | null): void {
    const known = this.#devices.get(device);
    assert(known, "who moves is here");
    if (known.serves === to) return;
    const from = known.serves;
    from?.serving.delete(device);
    known.serves = to;
    to?.serving.add(device);
    for (const [run, standing] of known.may) {
      this.looked++;
      if (to === null && standing === "yes") run.free.add(device);
      else run.free.delete(device);
    }
    const first = this.#moves.get(device);
    this.#moves.set(device, {
      device,
      from: first ? first.from : (from?.name ?? null),
      to: to?.name ?? null,
    });
  }

  #count(run: Run, standing: Standing | undefined, by: 1 | -1): void {
    if (standing === "yes") run.eligible += by;
    if (standing === "later") run.later += by;
  }

  #known(name: string): Run {
    const run = this.#runs.get(name);
    assert(run, "a run that is scheduled");
    return run;
  }
}

/** Who is overdue, in the order they became so; then who received least. */
function byPrecedence(a: Run, b: Run): number {
  if (a.overdue !== b.overdue) return a.overdue < b.overdue ? -1 : 1;
  return a.tag - b.tag || a.order - b.order;
}

function lackOf({ view, serving }: Run): number {
  return Math.max(0, (view.need?.fewest ?? 0) - serving.size);
}

/** One that has too few, or nobody, holds nothing that others could use. */
function stuckFromMs(run: Run): number {
  const { serving, stuck, view, sinceMs } = run;
  if (stuck || serving.size === 0 || isShort(run)) return Number.POSITIVE_INFINITY;
  return Math.max(view.untilMs, sinceMs) + STUCK_MS;
}

/** It gathers, and has too few. */
function isShort(run: Run): boolean {
  return lackOf(run) > 0;
}

function isOverdue({ overdue }: Run): boolean {
  return Number.isFinite(overdue);
}
