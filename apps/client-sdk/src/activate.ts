import { merge } from "@tutti/adapter/merge";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sizeOf, type Tensors } from "@tutti/graph/ir";
import type { Plan } from "@tutti/plan/plan";
import { envelopeJson } from "@tutti/release/envelope-json";
import type { OpenedRelease, Release } from "@tutti/release/manifest";
import type { SignedEnvelope } from "@tutti/wire/release";
import type { Split } from "./examples.ts";
import { loadModel } from "./load-model.ts";
import type { ModelHolder, Running } from "./model.ts";
import type { Reporter } from "./reporter.ts";
import type { Site } from "./site.ts";
import { isOlder, type Made } from "./store.ts";
import type { Workshop } from "./workshop.ts";

export type Activation = {
  readonly site: Site;
  readonly workshop: Workshop;
  readonly holder: ModelHolder;
  readonly report: Reporter;
  readonly signal: AbortSignal;
};

/** A release that `checkInvite` or `checkRelease` let in, with the envelope it came in. */
export type Admitted = {
  readonly plan: Plan;
  readonly opened: OpenedRelease;
  readonly manifest: SignedEnvelope;
};

/**
 * download → verify → merge → infer. The new model is tried before anything points at it: it loads, and
 * answers a batch of this site's rows with finite numbers; else the old one goes on answering.
 * @throws Fault("refused") naming what the trial found, or what the merge cannot do.
 */
export async function activate({ plan, opened, manifest }: Admitted, by: Activation): Promise<void> {
  const { site, workshop, holder, report } = by;
  const { release, digest } = opened;
  const { run, version, round } = release;
  if (version === 0) return await serveBase(plan, by);
  const { current, rejected, latest } = await site.store.pointer();
  const answers = holder.model.release?.digest ?? null;
  if (current === digest && answers === digest) return;
  // A write that failed is on disk all the same, and the release of before is no longer. What the pointer
  // names is served as it is: written anew it would be gone for a moment.
  if (current !== answers) await loadModel(site, holder);
  if (holder.model.release?.digest === digest) return announce(opened, by);
  // Each word of the coordinator names the newest release again: without this it would undo a rollback.
  if (rejected.includes(digest)) return skip(opened, by);
  // So it does of a run that ended before another's release came in here.
  const made = madeOf(release, site);
  if (latest && latest.run !== run && isOlder(made, latest)) return;
  // A round's parent is served once `ready` got through, which may be long after a newer release came.
  const newest = await workshop.newest(run);
  if (newest !== null && newest.release.version > version) return;
  report({ run, round, activity: "verifying", progress: 0 });
  const { parameters, bytes: adapter } = await workshop.adapter(plan, release.adapter);
  report({ run, round, activity: "merging", progress: 0 });
  const trainer = await workshop.trainer(plan);
  const model = merge(await workshop.base(plan), trainer.adapter, parameters);
  const running = await tried(model, version, by, await workshop.rows(plan));
  try {
    // The trial reads the app's rows, which may take until after the device was closed.
    by.signal.throwIfAborted();
    const held = { digest, run, version, manifest: envelopeJson(manifest), adapter, model };
    await site.store.activate(held, made);
  } catch (cause) {
    await running.release();
    throw cause;
  }
  await holder.swap(running, { run, version, digest });
  announce(opened, by);
}

/** How far ahead of this device's clock a release may say that it was made, in ms: a day. */
const AHEAD_MS = 86_400_000;

/** A coordinator whose clock was years ahead for once keeps no other run's releases out for years. */
function madeOf({ run, createdAt }: Release, { clock }: Site): Made {
  return { run, madeMs: Math.min(Date.parse(createdAt), clock.wallMs() + AHEAD_MS) };
}

function announce({ digest, release: { run, version, round } }: OpenedRelease, by: Activation): void {
  const { site, report } = by;
  site.audit?.note({ actor: "device", what: "release.activated", subject: digest, detail: { run, version } });
  report({ run, round, activity: "waiting", progress: 0 });
  site.emit({ kind: "released", version, run, digest });
}

function skip({ digest, release: { version } }: OpenedRelease, { site, holder }: Activation): void {
  if (holder.skipped.has(digest)) return;
  holder.skipped.add(digest);
  const detail = { expected: "a newer one", got: "the one this device went back from" };
  site.emit({ kind: "refused", because: new Fault("refused", `release ${version}`, detail) });
}

/** Before the first release the base model answers, so an app has one from the start. */
async function serveBase(plan: Plan, { site, workshop, holder }: Activation): Promise<void> {
  const base = await workshop.base(plan);
  if (holder.loaded) return;
  // First, or what fails here would not be tried again.
  await site.store.setBase(plan.base.sha256);
  await holder.swap(await site.runtime.open(base), null);
}

/** Rows of the trial: enough to meet the model's branches, few enough for any device. */
const TRIAL_ROWS = 16;

async function tried(
  model: Uint8Array,
  version: number,
  { site }: Activation,
  rows: Split,
): Promise<Running> {
  const what = `release ${version}, trial`;
  const todo = "The model of before goes on answering";
  let running: Running;
  try {
    running = await site.runtime.open(model);
  } catch (cause) {
    throw new Fault("refused", what, { expected: "a model that loads", got: `${cause}`, todo, cause });
  }
  try {
    finite(what, await running.run(await trialFeeds(rows)));
    return running;
  } catch (cause) {
    await running.release();
    if (cause instanceof Fault) throw cause;
    throw new Fault("refused", what, { expected: "a model that answers", got: `${cause}`, todo, cause });
  }
}

async function trialFeeds({ train, heldOut }: Split): Promise<Tensors> {
  const from = heldOut.count > 0 ? heldOut : train;
  const rows = Array.from({ length: Math.min(TRIAL_ROWS, from.count) }, (_, row) => row);
  const feeds = new Map(await from.take(rows));
  feeds.delete("label");
  return feeds;
}

function finite(what: string, outputs: Tensors): void {
  for (const [name, { data, shape }] of outputs) {
    if (!(data instanceof Float32Array)) continue;
    const at = data.findIndex((value) => !Number.isFinite(value));
    const got = `${data[at]} in ${name}, value ${at} of ${sizeOf(shape)}`;
    demand(at === -1, () => new Fault("refused", what, { expected: "finite answers", got }));
  }
}
