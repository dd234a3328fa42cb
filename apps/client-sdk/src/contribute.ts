import type { Clock } from "@tutti/foundation/clock";
import { seededRandom } from "@tutti/foundation/random";
import { activeLayout } from "@tutti/round/spec";
import { Task_Kind } from "@tutti/wire/round";
import type { Accepted } from "./check.ts";
import type { Listener } from "./events.ts";
import { permitRows } from "./policy.ts";
import { permitRound, privateWords, vectorOf } from "./private.ts";
import type { Reporter } from "./reporter.ts";
import type { Site } from "./site.ts";
import { mustBeEligible } from "./state.ts";
import { type Contribution, contributionOf, type Outcome, slotsOf, updateOf } from "./vector.ts";
import type { Workshop } from "./workshop.ts";

export type Contributor = {
  readonly device: string;
  /** Its rules, its noise, and its account of what it gave away. */
  readonly site: Pick<Site, "policy" | "secret" | "spending" | "audit" | "state" | "engines">;
  readonly workshop: Workshop;
  readonly report: Reporter;
  readonly emit: Listener;
  readonly clock: Clock;
  readonly signal: AbortSignal;
};

/**
 * The device's part of a round, data → train → clip → quantise (docs/architecture.md, The way of the data);
 * masking and upload follow when the coordinator opens a session. Plan, device name and round fix every
 * random choice: same rows, same words.
 */
export async function contribute(work: Accepted, by: Contributor): Promise<Contribution> {
  const { plan, task } = work;
  if (plan.privacy) permitRound(work, plan.privacy, by.site);
  const random = seededRandom(`${plan.seed}/${by.device}/${task.round}`);
  const rows = await by.workshop.rows(plan);
  permitRows(by.site.policy, rows.train.count);
  await mustBeEligible(plan, by.site, rows.train.count);
  // What is the app's took as long as it liked; a device that was closed meanwhile has no log any more.
  by.signal.throwIfAborted();
  by.site.audit?.note({
    actor: by.device,
    what: "data.used",
    subject: rows.digest ?? "the app's own",
    detail: { run: task.run, round: task.round, rows: rows.train.count, heldOut: rows.heldOut.count },
  });
  const trainer = await by.workshop.trainer(plan);
  const { parameters } = await by.workshop.adapter(plan, work.parent.release.adapter);
  const layout = activeLayout(work);
  const now = { run: task.run, round: task.round, activity: "training" as const };

  by.report({ ...now, progress: 0 });
  const { examples, lossSum, correct } = await trainer.evaluate({ parameters, examples: rows.heldOut });
  by.emit({ kind: "evaluated", round: task.round, rows: examples, ...means(examples, lossSum, correct) });
  let outcome: Outcome = {
    parent: parameters,
    trained: null,
    metrics: { examples, loss: lossSum, correct, trainExamples: 0, trainLoss: 0 },
  };
  if (task.kind === Task_Kind.TRAIN) {
    const trained = await trainer.train({
      parameters,
      active: layout.tensors,
      examples: rows.train,
      steps: plan.train.steps,
      random: random.fork("batches"),
      onStep: (step) => by.report({ ...now, progress: (step + 1) / plan.train.steps }),
      pause: breather(by.clock),
      signal: by.signal,
    });
    const { engine } = trainer;
    by.emit({ kind: "trained", round: task.round, rows: trained.examples, loss: trained.loss, engine });
    const sums = { trainExamples: trained.examples, trainLoss: trained.loss * trained.examples };
    outcome = { ...outcome, trained: trained.parameters, metrics: { ...outcome.metrics, ...sums } };
  }
  if (!plan.privacy) return contributionOf(plan, layout, { outcome, random });
  const vector = vectorOf(work, updateOf(layout, outcome), slotsOf(plan, outcome));
  const words = privateWords({ work, vector, rounding: random.fork("quantise") }, by.site);
  return { layout, words: () => words };
}

function means(rows: number, lossSum: number, correct: number): { loss: number; accuracy: number } {
  return { loss: rows === 0 ? 0 : lossSum / rows, accuracy: rows === 0 ? 0 : correct / rows };
}

/**
 * Steps of training may run for this long before the event loop gets a turn: streams and timers live there.
 */
const BREATH_MS = 25;

function breather(clock: Clock): () => Promise<void> {
  let sinceMs = clock.nowMs();
  return async () => {
    if (clock.nowMs() - sinceMs < BREATH_MS) return;
    await clock.sleep(0);
    sinceMs = clock.nowMs();
  };
}
