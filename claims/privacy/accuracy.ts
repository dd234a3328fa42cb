import { readFile, writeFile } from "node:fs/promises";
import type { Claim } from "../claim.ts";
import { type Federated, federate } from "../support/privacy/federation.ts";
import { blockOf, svgOf, type Tasks, withBlock } from "../support/privacy/page.ts";
import { type Swept, sweep } from "../support/privacy/sweep.ts";
import { heartTask, mnistTask } from "../support/privacy/tasks.ts";

const SEEDS = [1, 2, 3, 4, 5] as const;
const EPSILONS = [null, 8, 4, 2] as const;
/** The manifest's figure is sum and conversion of the same numbers: it may differ by rounding only. */
const SAME = 1e-9;

const DOCS = new URL("../../docs/", import.meta.url);
/** Set to 1: docs/privacy.md and docs/privacy-accuracy.svg are written from what was measured. */
const WRITE = "TUTTI_WRITE_DOCS";

const NOTES = [
  "in the sweep each device's words are its own code's, added in the ring without masks and without a " +
    "wire: that a masked sum is the same sum is claim secagg/exact",
  "each device draws its noise from the platform's randomness, so accuracies differ a little each time",
  "recipes were picked on parts of the training rows, which is not itself private",
] as const;

/**
 * Learning with distributed noise over 100 devices, accuracy against ε; and one federation over gRPC and
 * under masks, whose release must claim what the accountant says.
 */
export const claim: Claim = {
  name: "privacy/accuracy",
  target:
    "Accuracy against ε over 100 devices, heart and mnist10k: reported as measured, ε 8 on mnist above its " +
    "base; no device counts more than was planned; a real federation's manifest has the accountant's ρ and ε",
  async run(report) {
    const [heart, mnist] = [await heartTask(), await mnistTask()];
    if (!heart || !mnist) return { figures: { skipped: "../shared/data is not there" }, holds: false };
    const options = { seeds: SEEDS, epsilons: EPSILONS, report };
    const tasks = { heart: await sweep(heart, options), mnist: await sweep(mnist, options) };
    const federation = await federate(heart, report);
    for (const line of blockOf(tasks, SEEDS.length).split("\n")) report(line);
    if (process.env[WRITE] === "1") await writeDocs(tasks);
    const checks = checksOf(tasks, federation);
    const figures = {
      ...tasks,
      federation,
      checks,
      fallsWithEpsilon: { heart: falls(tasks.heart), mnist: falls(tasks.mnist) },
      notes: NOTES,
    };
    return { figures, holds: Object.values(checks).every(Boolean) };
  },
};

async function writeDocs(tasks: Tasks): Promise<void> {
  const page = new URL("privacy.md", DOCS);
  await writeFile(page, withBlock(await readFile(page, "utf8"), blockOf(tasks, SEEDS.length)));
  await writeFile(new URL("privacy-accuracy.svg", DOCS), svgOf(tasks, SEEDS.length));
}

function checksOf({ heart, mnist }: Tasks, federation: Federated) {
  const planned = [...heart.rows, ...mnist.rows].filter(({ epsilon }) => epsilon !== null);
  return {
    learnsAtEpsilon8: mnist.rows.find(({ epsilon }) => epsilon === 8)!.mean > mnist.base,
    countedWithinPlan: planned.every(({ epsilon, counted }) => counted! <= epsilon! * (1 + SAME)),
    realisedWithinCounted: planned.every(({ counted, realised }) => realised! <= counted! * (1 + SAME)),
    manifestIsAccountants: federation.difference <= SAME,
    ledgersHoldTheClaim: federation.leastLedger.rho >= federation.manifest.rho * (1 - SAME),
    verified: federation.verified.length === 2,
  };
}

/** Whether no smaller ε did better than a larger one by more than both spread over seeds. */
function falls({ rows }: Swept): boolean {
  return rows.slice(1).every((row, at) => row.mean <= rows[at]!.mean + row.std + rows[at]!.std);
}
