import { join } from "node:path";
import { FILES, readConfig, readPolicy } from "@tutti/client-sdk/node/folder";
import { readSpending } from "@tutti/client-sdk/node/spending";
import { Fault } from "@tutti/foundation/fault";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import { ANY_RUN, type Budget, type Entry, roundsLeft, spent } from "@tutti/privacy/ledger";
import type { Release } from "@tutti/release/manifest";
import { Command } from "commander";
import { chance, withContext } from "../../action.ts";
import { type AuthorityOptions, withAuthority } from "../../authority.ts";
import { openManifest } from "../../manifest.ts";
import type { Output } from "../../output.ts";

type Options = AuthorityOptions & {
  readonly folder?: string;
  readonly manifest?: string;
  readonly delta?: number;
};

const EXAMPLES = `
Examples:
  What this device has given away to each run, and what its policy's budget still allows:
    $ tutti privacy spent --folder device
  What a release claims that its run has taken of each device:
    $ tutti privacy spent --manifest manifest.json --join ward-7.join.json

A device counts every upload before it is sent, at the fewest survivors that its sum may be revealed with; a
release counts the sums that there were, by who was in them. A device that was in each has counted more.`;

/** A run's account at this device. */
type Account = {
  readonly run: string;
  /** Uploads are counted each; a round that was tried again has several. */
  readonly rounds: number;
  readonly uploads: number;
  readonly rho: number;
  readonly epsilon: number;
  readonly delta: number;
  /** Rounds that still fit the budget at the last one's price; null without a budget. */
  readonly roundsLeft: number | null;
};

export function spentCommand(): Command {
  return withAuthority(new Command("spent"))
    .description("Say what a device has given away to each run, or what a release claims of it.")
    .option("--folder <dir>", "a device's folder")
    .option("--manifest <file>", "manifest.json of a release, with --join or --authority")
    .option("--delta <number>", "tell ε at this δ (default: the policy's, else the run's own)", chance)
    .addHelpText("after", EXAMPLES)
    .action((options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const { folder, manifest } = options;
        if (folder !== undefined && manifest === undefined) return ofDevice(folder, options, output);
        if (manifest !== undefined && folder === undefined) return ofRelease(manifest, options, output);
        const got = folder === undefined ? "neither" : "both";
        throw new Fault("bad-input", "privacy spent", { expected: "--folder or --manifest", got });
      }),
    );
}

async function ofDevice(folder: string, { delta }: Options, output: Output): Promise<void> {
  const { federation, name } = await readConfig(folder);
  const { privacy: budget } = await readPolicy(folder);
  const entries = await readSpending(join(folder, FILES.privacy));
  const runs = runsOf(entries).map((run) => accountOf(entries, run, { budget, delta }));
  for (const account of runs) output.say(accountLine(account, budget));
  if (entries.some(({ run }) => run === ANY_RUN))
    output.say("a line was cut short before it said its run: it counts for each until the device restarts");
  const allowed = budget ? `the policy allows each ε ${budget.epsilon} at δ ${budget.delta}` : "no budget";
  output.result(
    { federation, device: name, budget, runs },
    `${name} has given noised sums to ${runs.length} ${runs.length === 1 ? "run" : "runs"}; ${allowed}`,
  );
}

/** In the order in which they first took something; a line of no known run is not a run. */
function runsOf(entries: readonly Entry[]): readonly string[] {
  return [...new Set(entries.map(({ run }) => run))].filter((run) => run !== ANY_RUN);
}

function accountOf(
  entries: readonly Entry[],
  run: string,
  { budget, delta: asked }: { budget: Budget | null; delta: number | undefined },
): Account {
  const own = entries.filter((entry) => entry.run === run);
  const last = own.at(-1)!;
  // A torn line has lost its δ, so the first is asked; where that is the torn one, what plans default to.
  const delta = asked ?? budget?.delta ?? (own[0]!.delta || 1e-5);
  const { rounds: uploads, rho, epsilon } = spent(entries, run, delta);
  const rounds = new Set(own.map(({ round }) => round)).size;
  const left = budget ? roundsLeft(entries, last, budget) : null;
  return { run, rounds, uploads, rho, epsilon, delta, roundsLeft: left };
}

function accountLine({ run, rounds, uploads, ...account }: Account, budget: Budget | null): string {
  const times = uploads === rounds ? "" : `, ${uploads} uploads`;
  const left = budget
    ? `; of ε ${budget.epsilon} at δ ${budget.delta}, ${account.roundsLeft} more at the last one's price`
    : "";
  return `run ${run.slice(0, 12)}: ${rounds} rounds${times}, ${priceText(account)}${left}`;
}

async function ofRelease(path: string, options: Options, output: Output): Promise<void> {
  const { release, digest } = await openManifest(path, options);
  const { run, version, privacy, cohorts } = release;
  const told = { run, version, digest, cohorts };
  if (!privacy) {
    output.result({ ...told, privacy }, `${named(release)} claims no differential privacy`);
    return;
  }
  const { mode, noiseMultiplier, clipNorm, rho, accountant } = privacy;
  const delta = options.delta ?? privacy.delta;
  const epsilon = options.delta === undefined ? privacy.epsilon : epsilonOfRho(rho, delta);
  output.say(`noise: ${mode}, ${noiseMultiplier} times clip norm ${clipNorm}; sums of ${cohorts.join(", ")}`);
  output.say(`accountant: ${accountant}`);
  output.result(
    { ...told, privacy: { ...privacy, epsilon, delta } },
    `${named(release)} claims of a device in every round: ${priceText({ rho, epsilon, delta })}`,
  );
}

function named({ run, version }: Release): string {
  return `version ${version} of run ${run.slice(0, 12)}`;
}

function priceText({ rho, epsilon, delta }: Pick<Account, "rho" | "epsilon" | "delta">): string {
  const shown = (value: number) => (Number.isFinite(value) ? value.toPrecision(4) : "without bound");
  return `ρ ${shown(rho)}, ε ${shown(epsilon)} at δ ${delta}`;
}
