import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { trainAlone } from "@tutti/client-sdk/alone";
import type { Split } from "@tutti/client-sdk/examples";
import { Device } from "@tutti/client-sdk/node/device";
import { join as enrol } from "@tutti/client-sdk/node/join";
import { platformRandom } from "@tutti/foundation/random";
import type { Tensor } from "@tutti/graph/ir";
import { prepareRun } from "tutti/prepare";
import type { Claim } from "../claim.ts";
import { oneThread } from "../support/learn-engine.ts";
import { type TestFederation, withFederation } from "../support/learn-federation.ts";
import { interval95, mean, rounded } from "../support/learn-figures.ts";
import { joined, rightOf } from "../support/learn-rows.ts";
import { readSentiment, type Sentiment, SITES, type SiteName, splitOf } from "../support/learn-sentiment.ts";

const RUN_FILE = fileURLToPath(new URL("sentiment.yaml", import.meta.url));
const SPLITS = [1, 2, 3, 4, 5] as const;
const WITHIN = 0.02;

/** Test accuracies of one model: at each site, and over all sites' test rows. */
type Scores = Readonly<Record<SiteName | "all", number>>;
/**
 * `central` takes the run's steps on all rows; `centralSamePasses` sees each row as often as its site does.
 */
type Models = "base" | "federated" | "central" | "centralSamePasses";
type Outcome = Readonly<Record<Models, Scores>>;

export const claim: Claim = {
  name: "learn/sentiment",
  target:
    "LoRA on a small BERT's query and value, its head whole, three sites under secure sums: mean test " +
    `accuracy of ${SPLITS.length} 80/20 splits within ${WITHIN} of central training by the same recipe`,
  async run(report) {
    const sentiment = await readSentiment();
    if (!sentiment) return { figures: { skipped: "../shared models and data are not there" }, holds: false };
    const outcomes = await withFederation(report, async (federation) => {
      const devices = await openDevices(federation, sentiment);
      const found: Outcome[] = [];
      const stop = new AbortController();
      const taking = devices.map((device) => device.participate({ once: false, signal: stop.signal }));
      try {
        for (const seed of SPLITS) {
          found.push(await oneSplit(seed, { federation, sentiment }));
          report(`split ${seed}: ${JSON.stringify(found.at(-1))}`);
        }
      } finally {
        stop.abort();
        await Promise.allSettled(taking);
        await Promise.all(devices.map((device) => device.close()));
      }
      return found;
    });
    return judged(outcomes);
  },
};

/** Three devices of the SDK in this process, each with rows of its own: the split is the plan's seed. */
async function openDevices(
  { folder, token }: TestFederation,
  { sites }: Sentiment,
): Promise<readonly Device[]> {
  const devices: Device[] = [];
  for (const site of SITES) {
    const home = join(folder, site);
    const joinFile = await readFile(await token(site), "utf8");
    await enrol({ joinFile, folder: home, random: platformRandom() });
    const data = ({ seed }: { seed: number }) => splitOf(sites[site], site, seed);
    devices.push(await Device.open({ folder: home, data, engine: oneThread() }));
  }
  return devices;
}

type Stage = { readonly federation: TestFederation; readonly sentiment: Sentiment };

async function oneSplit(seed: number, { federation, sentiment }: Stage): Promise<Outcome> {
  const prepared = await prepareRun(RUN_FILE, { seed });
  const { merged, status } = await federation.train(prepared);
  if (!status.history.every(({ secure }) => secure)) throw new Error("a round was summed in the clear");
  const splits = SITES.map((site) => splitOf(sentiment.sites[site], site, seed));
  const all = joined(splits.map(({ train }) => train));
  const { steps } = prepared.plan.train;
  const central = await trainAlone(prepared, all, { engine: oneThread() });
  const longer = await trainAlone(prepared, all, { engine: oneThread(), steps: steps * SITES.length });
  return {
    base: await scoresOf(prepared.base, splits),
    federated: await scoresOf(merged, splits),
    central: await scoresOf(central, splits),
    centralSamePasses: await scoresOf(longer, splits),
  };
}

async function scoresOf(model: Uint8Array, splits: readonly Split[]): Promise<Scores> {
  const scores: Record<string, number> = {};
  let [right, count] = [0, 0];
  for (const [at, site] of SITES.entries()) {
    const { heldOut } = splits[at]!;
    const here = await rightOf(model, heldOut, isRight);
    scores[site] = rounded(here / heldOut.count);
    [right, count] = [right + here, count + heldOut.count];
  }
  return { ...scores, all: rounded(right / count) } as Scores;
}

function isRight({ data }: Tensor, label: Tensor, row: number): boolean {
  const [logits, labels] = [data as Float32Array, label.data as BigInt64Array];
  return logits[2 * row + 1]! > logits[2 * row]! === (labels[row] === 1n);
}

function judged(outcomes: readonly Outcome[]) {
  const of = (model: Models, where: keyof Scores) => outcomes.map((outcome) => outcome[model][where]);
  const shown = (model: Models) => {
    const scores = (["all", ...SITES] as const).map((where) => [where, rounded(mean(of(model, where)))]);
    return { ...Object.fromEntries(scores), interval95: interval95(of(model, "all")) };
  };
  // Splits are paired, so the interval is of the differences.
  const gaps = (central: Models) =>
    outcomes.map((outcome) => rounded(outcome[central].all - outcome.federated.all));
  const gapOf = (central: Models) => {
    const values = gaps(central);
    return { mean: rounded(mean(values)), worst: Math.max(...values), interval95: interval95(values) };
  };
  const gained = outcomes.map((outcome) => outcome.federated.all - outcome.base.all);
  const figures = {
    splits: outcomes.length,
    engine: oneThread().name,
    base: shown("base"),
    federated: shown("federated"),
    central: shown("central"),
    centralSamePasses: shown("centralSamePasses"),
    federatedOverBase: { mean: rounded(mean(gained)), interval95: interval95(gained) },
    belowCentral: gapOf("central"),
    belowCentralSamePasses: gapOf("centralSamePasses"),
    notes: [
      "the base was trained on most amazon sentences, so its accuracy there, test rows included, is no test",
      "splits share sentences, so the intervals are narrower than five independent samples would give",
    ],
  };
  const holds = mean(gaps("central")) <= WITHIN && mean(gaps("centralSamePasses")) <= WITHIN;
  return { figures, holds };
}
