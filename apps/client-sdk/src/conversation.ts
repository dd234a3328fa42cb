import { demand, unreachable } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import { termsOf } from "@tutti/round/spec";
import { create } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import {
  DeclineRequestSchema,
  type Excused,
  type Instruction,
  type Invite,
  ReadyRequestSchema,
  type RunOver,
} from "@tutti/wire/round";
import type { Terms } from "@tutti/wire/secagg";
import { type Admitted, activate } from "./activate.ts";
import { acceptance, NO_AUDIT, withRefusals } from "./audit.ts";
import { persist } from "./backoff.ts";
import { type Accepted, checkInvite, checkRelease } from "./check.ts";
import { Engagement } from "./engaged.ts";
import type { Going } from "./going.ts";
import type { ModelHolder } from "./model.ts";
import { Pulse } from "./pulse.ts";
import { type Reporter, reporter } from "./reporter.ts";
import { Room } from "./room.ts";
import { type Answer, openSession, type Session, type StageWord } from "./session.ts";
import { type Site, trustOf } from "./site.ts";
import type { Standing } from "./standing.ts";
import { beginWork, endWork, mayJoinLater, useOf, type Work, wordsOf } from "./work.ts";
import type { Workshop } from "./workshop.ts";

/** How a run ended for this device. */
export type RunEnd = { readonly run: string; readonly outcome: string; readonly reason: string };

type ConversationOptions = {
  readonly site: Site;
  readonly workshop: Workshop;
  readonly holder: ModelHolder;
  readonly signal: AbortSignal;
  /** Training goes on beside the words, and for a while after them. */
  readonly going: Going;
  readonly onRunOver: (end: RunEnd) => void;
  /** A run that it takes part in from now on; one that was over may have been resumed. */
  readonly onInvited?: (run: string) => void;
  /** Hears of what there is to fetch beside the rounds. */
  readonly standing?: Pick<Standing, "heard">;
};

/**
 * The device's side of a run: the coordinator's words in, messages out. Words are answered one after another;
 * training alone goes on beside them, and a word of a task that it is of no use to ends it.
 */
export class Conversation {
  readonly #options: ConversationOptions;
  readonly #report: Reporter;
  readonly #pulse: Pulse;
  readonly #audit: ReturnType<typeof withRefusals>;
  #queue: Promise<void> = Promise.resolve();
  #work: Work | null = null;
  #session: Session | null = null;
  readonly #engaged = new Engagement();
  readonly #room = new Room();
  /** Streams that began, and the one whose words are answered now. */
  readonly #streams = { begun: 0, answered: 0 };
  #nextStream = awaited();

  constructor(options: ConversationOptions) {
    this.#options = options;
    this.#audit = withRefusals(options.site.audit ?? NO_AUDIT);
    const { link, clock, emit, jitter, heldUpMs } = options.site;
    this.#pulse = new Pulse(heldUpMs);
    this.#report = reporter({ link, clock, emit, jitter, signal: options.signal });
  }

  /**
   * Takes a word in turn, as soon as there is room for it. What it cannot do is told as `refused`: one bad
   * word does not end the conversation.
   */
  async hear(instruction: Instruction): Promise<void> {
    const stream = this.#streams.begun;
    await this.#room.made(this.#options.site.clock, this.#options.signal);
    const done = this.#room.take();
    this.#enqueue(() => this.#take(instruction, stream).finally(done));
  }

  /** A new stream begins: whatever round it was in, the coordinator says anew, and hears what waits. */
  connected(): void {
    this.#streams.begun++;
    const { come } = this.#nextStream;
    this.#nextStream = awaited();
    come();
  }

  /** Resolves when every word heard so far was answered; training may go on. */
  async settled(): Promise<void> {
    await this.#queue;
  }

  close(): void {
    endWork(this.#work, "the device stopped");
    this.#endSession();
  }

  #enqueue(job: () => Promise<void>): void {
    const begun = () => (this.#options.signal.aborted ? undefined : job());
    this.#queue = this.#queue.then(begun).catch((error: unknown) => this.#refuse(error));
  }

  async #take({ word }: Instruction, stream: number): Promise<void> {
    if (stream !== this.#streams.answered) this.#engaged.reset();
    this.#streams.answered = stream;
    switch (word.case) {
      case undefined:
      case "idle":
        return;
      case "notice":
        return this.#options.standing?.heard(word.value);
      case "invite":
        return await this.#invited(word.value);
      case "openSession":
        return await this.#open(word.value.terms);
      case "roster":
      case "picks":
      case "delivery":
      case "survivors":
      case "attestations":
        return await this.#stage(word);
      case "excused":
        return this.#excused(word.value);
      case "published":
        return await this.#published(word.value.run, word.value.manifest);
      case "runOver":
        return await this.#runOver(word.value);
      default:
        return unreachable(word);
    }
  }

  /** Check everything, then train beside the conversation; the same task again goes on with what it has. */
  async #invited(invite: Invite): Promise<void> {
    const { site, workshop } = this.#options;
    const newest = await workshop.newest(invite.task?.run ?? "");
    const rules = { trust: trustOf(site), policy: site.policy, newest, before: this.#work?.accepted };
    let accepted: Accepted;
    try {
      accepted = checkInvite(invite, rules);
      this.#engaged.enter(accepted.task.run);
    } catch (error) {
      this.#refuse(error);
      return await this.#decline(invite, discreet(error));
    }
    this.#options.onInvited?.(accepted.task.run);
    await workshop.keepPlan(accepted.task.run, accepted.plan);
    await workshop.keepNewest(accepted.parent);
    const use = this.#work ? useOf(this.#work, accepted) : "none";
    if (use === "later") return await this.#decline(invite, "busy: training for a later round");
    // Of another task: no session of the one before may still take what is trained.
    if (use !== "same") this.#endSession();
    if (use === "none") this.#begin(accepted);
    this.#work!.accepted = accepted;
    void this.#answer(this.#work!, accepted);
  }

  #begin(accepted: Accepted): void {
    const { site, workshop, signal, going } = this.#options;
    endWork(this.#work, "another task");
    this.#audit.note(acceptance(accepted));
    const { identity, emit, clock } = site;
    const own = { device: identity.name, site, workshop };
    this.#work = beginWork(accepted, { ...own, report: this.#report, emit, clock, signal });
    void going.during(this.#work.done);
  }

  /** Ready once trained, or a reason; said again whenever the invitation is. */
  async #answer(work: Work, accepted: Accepted): Promise<void> {
    const { task, attempt, plan, parent, manifest } = accepted;
    const { site, signal } = this.#options;
    const said = { run: task.run, round: task.round, attempt };
    try {
      await work.done;
    } catch (error) {
      if (work.stop.signal.aborted || signal.aborted || work.accepted !== accepted) return;
      if (this.#work === work) this.#work = null;
      this.#refuse(error);
      const reason = discreet(error, plan.privacy !== undefined);
      return await this.#decline({ task, attempt }, reason).catch((cause) => this.#refuse(cause));
    }
    // Whoever was invited again meanwhile, answers that.
    if (this.#work !== work || work.accepted !== accepted) return;
    this.#report({ ...said, activity: "waiting", progress: 1 });
    const ready = { ...said, answersWithinMs: this.#pulse.answersWithinMs(said.run) };
    await this.#persist((signal) => site.link.ready(create(ReadyRequestSchema, ready), signal)).catch(
      (error) => this.#refuse(error),
    );
    // Nothing is begun that `settled` would not wait for.
    if (signal.aborted) return;
    // While others still train there is time to serve the release that this round began from.
    this.#enqueue(() => this.#activate({ plan, opened: parent, manifest }));
  }

  async #decline({ task, attempt }: Pick<Invite, "task" | "attempt">, reason: string): Promise<void> {
    const request = { run: task?.run ?? "", round: task?.round ?? 0, attempt, reason };
    this.#engaged.leave(request.run);
    await this.#persist((signal) =>
      this.#options.site.link.decline(create(DeclineRequestSchema, request), signal),
    );
  }

  /** Not needed in this round after all. What is trained is kept: another attempt may want it. */
  #excused({ run, round, attempt }: Excused): void {
    this.#engaged.leave(run);
    const work = this.#work;
    const { task, attempt: own } = work?.accepted ?? {};
    if (!work || task?.run !== run || task.round !== round || own !== attempt) return;
    const keeps = mayJoinLater(work);
    if (!keeps && !work.finished) {
      endWork(work, "the round goes on without this device");
      this.#work = null;
    }
    this.#options.site.emit({ kind: "excused", run, round, keeps });
  }

  async #open(terms: Terms | undefined): Promise<void> {
    const { site } = this.#options;
    demand(terms, () => new Fault("bad-message", "session", { expected: "terms", got: "none" }));
    const work = this.#work;
    demand(
      work,
      () => new Fault("refused", "session", { expected: "one for a task I trained for", got: "another" }),
    );
    const own = termsOf(work.accepted);
    const words = await wordsOf(work);
    if (!this.#session?.isFor(terms)) {
      this.#endSession();
      this.#session = openSession({ own, cohort: work.accepted.plan.cohort, site, words });
    }
    await this.#say(this.#session.open(terms), work);
  }

  async #stage(word: StageWord): Promise<void> {
    const session = this.#session;
    const work = this.#work;
    demand(
      session && work,
      () => new Fault("refused", word.case, { expected: "an open session", got: "none" }),
    );
    // A word that the session refuses leaves it as it was: it may be an old one.
    const answer = await session.hear(word);
    await this.#say(answer, work);
  }

  async #say({ uploads, send, leaves }: Answer, work: Work): Promise<void> {
    this.#options.signal.throwIfAborted();
    const { link, clock, jitter } = this.#options.site;
    const { run, round } = work.accepted.task;
    if (leaves) this.#audit.note({ ...leaves, actor: "device", detail: { run, round, ...leaves.detail } });
    const onProgress = (progress: number) => this.#report({ run, round, activity: "uploading", progress });
    if (uploads) work.given = true;
    if (uploads) onProgress(0);
    try {
      await this.#persist((signal) => send(link, signal, { patience: { clock, jitter }, onProgress }));
    } catch (error) {
      // The coordinator went on without us; this session's keys are of no more use.
      this.#endSession();
      throw error;
    }
    if (!uploads) return;
    this.#pulse.vectorSent(run, round);
    this.#report({ run, round, activity: "waiting", progress: 1 });
  }

  async #published(run: string, manifest: SignedEnvelope | undefined): Promise<void> {
    const { site, workshop } = this.#options;
    demand(manifest, () => new Fault("bad-message", "published", { expected: "a manifest", got: "none" }));
    this.#engaged.leave(run);
    const plan = await workshop.planOf(run);
    // A run this device was never invited to has no plan here, so nothing to judge its releases by.
    if (plan === null) return;
    const newest = await workshop.newest(run);
    const opened = checkRelease(manifest, { trust: trustOf(site), run, plan, newest });
    await workshop.keepNewest(opened);
    await this.#activate({ plan, opened, manifest });
  }

  async #activate(admitted: Admitted): Promise<void> {
    const { site, workshop, holder, signal } = this.#options;
    // The app's model is of one run; others are only trained for.
    if (site.serves !== undefined && site.serves !== admitted.plan.name) return;
    await activate(admitted, { site, workshop, holder, report: this.#report, signal });
  }

  async #runOver({ run, outcome, reason, release }: RunOver): Promise<void> {
    // A coordinator without a run tells everybody of its last one; only who was invited to it took part.
    if ((await this.#options.workshop.planOf(run)) === null) return;
    this.#engaged.leave(run);
    if (this.#work?.accepted.task.run === run) {
      endWork(this.#work, "the run is over");
      this.#work = null;
      this.#endSession();
    }
    if (release) await this.#published(run, release).catch((error) => this.#refuse(error));
    this.#options.site.emit({ kind: "runOver", run, outcome, reason });
    this.#options.onRunOver({ run, outcome, reason });
  }

  #endSession(): void {
    this.#session?.close();
    this.#session = null;
  }

  #persist<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, jitter } = this.#options.site;
    const again = () => this.#nextStream.comes;
    return persist(call, { clock, jitter, again }, this.#options.signal);
  }

  #refuse(error: unknown): void {
    const because = asFault(error);
    // A conflict says that the coordinator went on without this message; its next word says where to.
    if (this.#options.signal.aborted || because.code === "conflict") return;
    this.#audit.refused(because);
    this.#options.site.emit({ kind: "refused", because });
  }
}

/**
 * What leaves the site of a refusal or a failure: its code and subject. The sentence stays here, as the
 * `refused` event: it may quote rows, or whom the policy approves and how much it allows. Storage's subject
 * is a path, and a bug's may be anything.
 */
function discreet(error: unknown, noised = false): string {
  const { code, what } = asFault(error);
  // Whether its rows were too few, or training diverged, is said of them without noise; its budget is not.
  if (noised && !what.startsWith("privacy budget")) return code;
  return code === "storage" || code === "internal" ? code : `${code}: ${what}`;
}

function awaited(): { readonly comes: Promise<void>; readonly come: () => void } {
  let come = () => {};
  const comes = new Promise<void>((resolve) => {
    come = resolve;
  });
  return { comes, come };
}
