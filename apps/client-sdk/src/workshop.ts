import { readTensors } from "@tutti/adapter/formats/safetensors";
import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { seededRandom } from "@tutti/foundation/random";
import type { ValueInfo } from "@tutti/graph/ir";
import { type Plan, parsePlan, planBytes } from "@tutti/plan/plan";
import type { OpenedRelease } from "@tutti/release/manifest";
import { type Split, splitExamples } from "./examples.ts";
import { openFetcher, type Wanted } from "./fetch.ts";
import { keepLatest } from "./kept.ts";
import { Recent } from "./recent.ts";
import type { Site } from "./site.ts";
import { openTrainer, type Trainer } from "./trainer.ts";
import type { Parameters } from "./vector.ts";

/** What a device has at hand for a run: fetched, opened and split once, then kept until others come. */
export type Workshop = {
  base(plan: Plan): Promise<Uint8Array>;
  rows(plan: Plan): Promise<Split>;
  trainer(plan: Plan): Promise<Trainer>;
  /**
   * Every tensor of the plan from an adapter's safetensors file, which has exactly these, in these shapes.
   * Finite or not is for the trial on activation to say.
   */
  adapter(plan: Plan, wanted: Wanted): Promise<{ parameters: Parameters; bytes: Uint8Array }>;
  /** The plan of a run this device was once invited to, or null. */
  planOf(run: string): Promise<Plan | null>;
  keepPlan(run: string, plan: Plan): Promise<void>;
  /** The newest release accepted of a run: there is no way back behind it. */
  newest(run: string): Promise<OpenedRelease | null>;
  keepNewest(opened: OpenedRelease): Promise<void>;
  /**
   * Discards what earlier processes left of downloads that nothing names any more: adapters of releases
   * before the newest, what was never completed, and bases of runs that were not heard of for RUNS others.
   */
  sweep(): Promise<void>;
  close(): Promise<void>;
};

/** Plans whose base, trainer and rows are at hand: a device may serve two runs in turn. */
const PLANS = 2;
/** Runs whose plan and newest release are at hand; those of others are on disk. */
const RUNS = 8;

export function openWorkshop(site: Site, signal: AbortSignal): Workshop {
  const { link, store } = site;
  const patience = { clock: site.clock, jitter: site.jitter };
  const fetched = openFetcher({ link, store, patience, signal });
  const trainer = keepLatest({
    most: PLANS,
    make: async (plan) => openTrainer({ base: await fetched(plan.base), plan, engine: await site.engine() }),
    drop: (old) => old.dispose(),
    inUse: ({ busy }) => busy,
  });
  /** The adapter that each plan's run is at. */
  const adapters = new Map<string, string>();
  const papers = papersIn(store);
  const rows = keepLatest({
    most: PLANS,
    make: async (plan) => rowsFor(site, plan, (await trainer.get(plan)).inputs),
  });
  return {
    base: (plan) => fetched(plan.base),
    rows: rows.get,
    trainer: trainer.get,
    adapter: async (plan, wanted) => {
      const bytes = await fetched(wanted);
      // One adapter of a run: a release keeps its own copy, and a long run would fill the disk.
      const before = adapters.get(lineOf(plan));
      adapters.set(lineOf(plan), wanted.sha256);
      if (before && ![...adapters.values()].includes(before)) await store.discard(before);
      return { parameters: readTensors(plan.tensors, bytes), bytes };
    },
    ...papers,
    sweep: async () => {
      const { base } = await store.pointer();
      // Anything else could be fetched again; going back as far as it goes ends here, offline.
      const kept = new Set(base === null ? [] : [base]);
      for (const run of await papers.runs()) {
        const plan = await papers.planOf(run);
        const newest = await papers.newest(run);
        if (plan === null || newest === null) continue;
        const { sha256 } = newest.release.adapter;
        for (const name of [plan.base.sha256, sha256]) kept.add(name);
        adapters.set(lineOf(plan), sha256);
      }
      await store.discardBut(kept);
    },
    close: trainer.close,
  };
}

/** Which plans' adapters follow each other: those of one run. */
function lineOf({ initial, name }: Plan): string {
  return initial.sha256 + name;
}

const NEWEST = "newest-";

/**
 * What a device keeps of runs: written when it changes, which a plan never does and a release once a round,
 * and read once.
 */
function papersIn(store: Site["store"]) {
  const plans = new Recent<Plan>(RUNS);
  const releases = new Recent<OpenedRelease>(RUNS);
  return {
    /** Those whose releases came last. */
    runs: async (): Promise<string[]> => {
      const newest = (await store.documents()).filter((name) => name.startsWith(NEWEST));
      return newest.slice(0, RUNS).map((name) => name.slice(NEWEST.length));
    },
    planOf: async (run: string): Promise<Plan | null> => {
      const known = plans.get(run);
      if (known) return known;
      const text = await store.document(`plan-${run}`);
      if (text === null) return null;
      const plan = parsePlan(utf8(text));
      plans.set(run, plan);
      return plan;
    },
    keepPlan: async (run: string, plan: Plan): Promise<void> => {
      // The same that was written or read; another may differ from it though it should not.
      if (plans.get(run) === plan) return;
      await store.putDocument(`plan-${run}`, fromUtf8(planBytes(plan)));
      plans.set(run, plan);
    },
    newest: async (run: string): Promise<OpenedRelease | null> => {
      const known = releases.get(run);
      if (known) return known;
      // Not verified anew: what it says was accepted once, and its certificate may have expired since.
      const text = await store.document(NEWEST + run);
      const opened = text === null ? null : (JSON.parse(text) as OpenedRelease);
      if (opened) releases.set(run, opened);
      return opened;
    },
    keepNewest: async (opened: OpenedRelease): Promise<void> => {
      const { run } = opened.release;
      if (releases.get(run)?.digest === opened.digest) return;
      await store.putDocument(NEWEST + run, JSON.stringify(opened));
      releases.set(run, opened);
    },
  };
}

/**
 * Rows of a site for a plan: the app's own split, or one that the plan's seed and the device's name decide.
 */
async function rowsFor(
  { data, folder, identity }: Site,
  plan: Plan,
  inputs: readonly ValueInfo[],
): Promise<Split> {
  if (typeof data === "function") return await data(plan, folder, { device: identity.name, inputs });
  return splitExamples(
    data,
    plan.evaluation.holdout,
    seededRandom(`${plan.seed}/${identity.name}`).fork("split"),
  );
}
