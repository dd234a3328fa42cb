import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Claim } from "./claim.ts";
import { runToEnd } from "./support/learn-command.ts";
import { mean, rounded } from "./support/learn-figures.ts";

const CHECKOUT = fileURLToPath(new URL("..", import.meta.url));
const SEEDS = [1, 2, 3, 4, 5] as const;
const [SECONDS, FEDERATED, OVER_ALONE, BELOW_CENTRAL] = [90, 0.95, 0.1, 0.03] as const;

/** One `npm start`: `seconds` is the whole command by our own clock, the rest is what its last line says. */
type Start = {
  readonly seconds: number;
  readonly federated: number;
  /** Above the best site alone. */
  readonly overAlone: number;
  readonly belowCentral: number;
};

export const claim: Claim = {
  name: "start",
  target:
    `npm start, mean of ${SEEDS.length} seeds: at most ${SECONDS} s, ` +
    `federated accuracy at least ${FEDERATED}, at ` +
    `least ${OVER_ALONE.toFixed(2)} above the best site alone, within ${BELOW_CENTRAL} of central training`,
  async run(report) {
    const folder = await mkdtemp(join(tmpdir(), "tutti-start-"));
    try {
      const fresh = process.env.CLAIM_FRESH === "1";
      const checkout = fresh ? await freshClone(folder, report) : CHECKOUT;
      const starts: Start[] = [];
      for (const seed of SEEDS) {
        const start = await startOnce(checkout, join(folder, `${seed}`), seed);
        report(`seed ${seed}: ${JSON.stringify(start)}`);
        starts.push(start);
      }
      return judged(starts, fresh);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

/** What a stranger does first; scripts of packages stay off, as hospitals have them. */
async function freshClone(folder: string, report: (line: string) => void): Promise<string> {
  const clone = join(folder, "clone");
  await runToEnd("git", ["clone", "--quiet", CHECKOUT, clone], folder);
  const startedMs = performance.now();
  await runToEnd("npm", ["ci", "--ignore-scripts"], clone);
  report(`fresh clone, npm ci --ignore-scripts: ${Math.round((performance.now() - startedMs) / 1000)} s`);
  return clone;
}

async function startOnce(checkout: string, out: string, seed: number): Promise<Start> {
  const startedMs = performance.now();
  const args = ["start", "--", "--json", "--seed", `${seed}`, "--out", out];
  const lines = await runToEnd("npm", args, checkout);
  const seconds = Math.round((performance.now() - startedMs) / 100) / 10;
  const { federated, central, local } = JSON.parse(lines.at(-1) ?? "") as Results;
  const best = Math.max(...Object.values(local).map(({ accuracy }) => accuracy));
  return {
    seconds,
    federated: rounded(federated.accuracy),
    overAlone: rounded(federated.accuracy - best),
    belowCentral: rounded(central.accuracy - federated.accuracy),
  };
}

type Accuracy = { readonly accuracy: number };
type Results = {
  readonly federated: Accuracy;
  readonly central: Accuracy;
  readonly local: Readonly<Record<string, Accuracy>>;
};

function judged(starts: readonly Start[], fresh: boolean) {
  const column = (name: keyof Start) => starts.map((start) => start[name]);
  const meanOf = (name: keyof Start) => rounded(mean(column(name)));
  const means: Start = {
    seconds: meanOf("seconds"),
    federated: meanOf("federated"),
    overAlone: meanOf("overAlone"),
    belowCentral: meanOf("belowCentral"),
  };
  const worst: Start = {
    seconds: Math.max(...column("seconds")),
    federated: Math.min(...column("federated")),
    overAlone: Math.min(...column("overAlone")),
    belowCentral: Math.max(...column("belowCentral")),
  };
  const figures = { seeds: starts.length, freshClone: fresh, mean: means, worst, worstHolds: meets(worst) };
  return { figures, holds: meets(means) };
}

function meets({ seconds, federated, overAlone, belowCentral }: Start): boolean {
  const learns = federated >= FEDERATED && overAlone >= OVER_ALONE && belowCentral <= BELOW_CENTRAL;
  return learns && seconds <= SECONDS;
}
