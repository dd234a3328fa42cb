import type { Plan } from "@tutti/plan/plan";
import { type Facts, judge, type Past } from "@tutti/round/eligible";
import type { Schedule } from "@tutti/round/schedule";
import type { Round } from "@tutti/round/state";
import { givers } from "@tutti/round/view";
import type { StoredParticipation } from "../store/store.ts";

/** A run's side: what it asks of devices, and what it remembers of them. */
type Asking = {
  readonly plan: Plan;
  round: number;
  /** Every device that it ever invited. */
  readonly past: Map<string, Past>;
  /** Of the devices that are here, why one may not serve it now. */
  readonly why: Map<string, string>;
  /** Of the devices that are here, why one declined, and until when it is not asked again. */
  readonly declined: Map<string, { readonly because: string; readonly untilMs: number }>;
  /** Devices that may again from a round on, or from a moment of the wall clock on. */
  readonly byRound: Map<number, Set<string>>;
  readonly byTime: Map<number, Set<string>>;
};

/** What a device may have got over by the next attempt: another round, or a line that was lost. */
const PASSING = /^(busy|unavailable|deadline|cancelled|conflict)\b/;

const MOST_REASONS = 20;

/** Rests that end close together end together: this many moments in the longest of them. */
const MOMENTS = 64;

/**
 * Who may serve which run, kept as devices come and change and as rounds end. One event judges the devices
 * that it is about, and no others.
 */
export class Standings {
  readonly #schedule: Schedule;
  readonly #wallMs: () => number;
  readonly #runs = new Map<string, Asking>();
  readonly #facts = new Map<string, Facts>();

  constructor(schedule: Schedule, wallMs: () => number) {
    this.#schedule = schedule;
    this.#wallMs = wallMs;
  }

  /** A run that is over is remembered only for whom it invited. */
  add(run: string, plan: Plan, of: { round: number; past: readonly StoredParticipation[] }): void {
    const past = new Map(of.past.map(({ device, ...rest }) => [device, rest]));
    const { round } = of;
    const fresh = { why: new Map(), declined: new Map(), byRound: new Map(), byTime: new Map() };
    this.#runs.set(run, { plan, round, past, ...fresh });
  }

  /** Once the schedule knows the run: judges every device that is here, this once. */
  open(run: string): void {
    for (const device of this.#facts.keys()) this.#judge(device, run);
  }

  /** A device that is here, as it is now. */
  know(device: string, facts: Facts): void {
    this.#facts.set(device, facts);
  }

  factsOf(device: string): Facts | undefined {
    return this.#facts.get(device);
  }

  /** Whom it may serve, judged now; also makes it known to the schedule. */
  here(device: string): void {
    const running = [...this.#runs].filter(([run]) => this.#schedule.has(run));
    this.#schedule.here(device, new Map(running.map(([run]) => [run, this.#standing(device, run)])));
  }

  gone(device: string): void {
    this.#facts.delete(device);
    for (const { why } of this.#runs.values()) why.delete(device);
    this.afresh(device);
  }

  /** A device that comes anew: its site may have changed what it declined for. */
  afresh(device: string): void {
    for (const { declined } of this.#runs.values()) declined.delete(device);
  }

  /**
   * A device that declined a round for a reason of its own is not asked again while the run waits for others,
   * twice as long as an attempt does: asked at once it would decline again, until no attempt is left.
   */
  declined(device: string, run: string, reason: string): void {
    const asking = this.#runs.get(run);
    if (!asking || !this.#facts.has(device) || PASSING.test(reason)) return;
    const grain = Math.ceil(restMs(asking.plan) / MOMENTS);
    const untilMs = Math.ceil((this.#wallMs() + restMs(asking.plan)) / grain) * grain;
    asking.declined.set(device, { because: `declined: ${reason}`, untilMs });
    put(asking.byTime, untilMs, device);
    this.#judge(device, run);
  }

  /** A round that ended, and the number of the next: who took part may have to wait, others no longer. */
  ended(run: string, round: Round, next: number): void {
    const asking = this.#runs.get(run);
    if (!asking) return;
    asking.round = next;
    const { invited, gave } = givers(round);
    const { round: number } = round.spec.task;
    const lastMs = this.#wallMs();
    for (const device of invited) this.invited(run, device);
    for (const device of gave) {
      const { rounds = 0, lastRound = -1 } = asking.past.get(device) ?? {};
      const again = lastRound === number ? 0 : 1;
      asking.past.set(device, { rounds: rounds + again, lastRound: number, lastMs });
    }
    if (!asking.plan.eligibility?.participation) return;
    const rested = [...asking.byRound].filter(([from]) => from <= next);
    for (const [from] of rested) asking.byRound.delete(from);
    for (const device of new Set([...gave, ...rested.flatMap(([, devices]) => [...devices])]))
      this.#judge(device, run);
  }

  /** A device that a round invites: from now on the run's releases and its end concern it. */
  invited(run: string, device: string): void {
    const past = this.#runs.get(run)?.past;
    if (past && !past.has(device)) past.set(device, { rounds: 0, lastRound: -1, lastMs: 0 });
  }

  wasInvited(run: string, device: string): boolean {
    return this.#runs.get(run)?.past.has(device) ?? false;
  }

  everInvited(run: string): Iterable<string> {
    return this.#runs.get(run)?.past.keys() ?? [];
  }

  /** Why devices that are here may not serve a run now, and how many each, most first. */
  reasons(run: string): [because: string, devices: number][] {
    const counts = new Map<string, number>();
    for (const because of this.#runs.get(run)?.why.values() ?? [])
      counts.set(because, (counts.get(because) ?? 0) + 1);
    const ranked = [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
    return ranked.slice(0, MOST_REASONS);
  }

  /** The same in sentences: "4 are out: not charging". */
  out(run: string): string[] {
    return this.reasons(run).map(
      ([because, devices]) => `${devices} ${devices === 1 ? "is" : "are"} out: ${because}`,
    );
  }

  /** Why a device may serve no run now; empty where it may. */
  whyNone(device: string): string {
    const running = [...this.#runs].filter(([run]) => this.#schedule.has(run));
    if (running.length === 0) return "no run in progress";
    const reasons = running.map(([, { why }]) => why.get(device) ?? "");
    return reasons.includes("") ? "" : (reasons[0] ?? "");
  }

  /** When somebody's rest ends by the wall clock; infinity for nobody. */
  get dueMs(): number {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const { byTime } of this.#runs.values())
      for (const untilMs of byTime.keys()) dueMs = Math.min(dueMs, untilMs);
    return dueMs;
  }

  /** Judges again whose rest is over by the wall clock. */
  wake(): void {
    for (const [run, { byTime }] of this.#runs)
      for (const [atMs, devices] of [...byTime].filter(([atMs]) => atMs <= this.#wallMs())) {
        byTime.delete(atMs);
        for (const device of devices) this.#judge(device, run);
      }
  }

  forget(run: string): void {
    const asking = this.#runs.get(run);
    asking?.why.clear();
    asking?.declined.clear();
    asking?.byRound.clear();
    asking?.byTime.clear();
  }

  #judge(device: string, run: string): void {
    if (!this.#facts.has(device) || !this.#schedule.has(run)) return;
    this.#schedule.standing(device, run, this.#standing(device, run));
  }

  #standing(device: string, run: string) {
    const [asking, facts] = [this.#runs.get(run), this.#facts.get(device)];
    if (!asking || !facts) return "no" as const;
    const { plan, round, past, why, declined, byRound, byTime } = asking;
    const own = declined.get(device);
    const leftMs = own ? own.untilMs - this.#wallMs() : 0;
    // More than there can be: the wall clock was set back.
    if (own && leftMs > 0 && leftMs <= 2 * restMs(plan)) {
      why.set(device, own.because);
      return "no" as const;
    }
    declined.delete(device);
    const at = { past: past.get(device), round, wallMs: this.#wallMs() };
    const { standing, because, fromRound, fromMs } = judge(plan.eligibility, facts, at);
    if (because === "") why.delete(device);
    else why.set(device, because);
    if (fromRound !== undefined) put(byRound, fromRound, device);
    const grain = (plan.eligibility?.participation?.everyMs ?? 0) / MOMENTS;
    if (fromMs !== undefined) put(byTime, Math.ceil(fromMs / grain) * grain, device);
    return standing;
  }
}

/** How long a device that declined is not asked again. */
function restMs({ deadlines }: Plan): number {
  return 2 * deadlines.joinMs;
}

function put(rests: Map<number, Set<string>>, until: number, device: string): void {
  rests.set(until, (rests.get(until) ?? new Set()).add(device));
}
