import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { Fault } from "@tutti/foundation/fault";
import { envelopeFromJson } from "@tutti/release/envelope-json";
import { type Given, type Verified, verifyRound } from "@tutti/round/verify";
import { Command } from "commander";
import { withContext } from "../action.ts";
import { type AuthorityOptions, authorityOf, withAuthority } from "../authority.ts";
import { readOrSay } from "../prepare.ts";

type Options = AuthorityOptions & {
  manifest?: string;
  sum?: string[];
  adapter?: string;
  parent?: string;
  state?: string;
  previous?: string;
};

export function verifyRoundCommand(): Command {
  return withAuthority(new Command("verify-round"))
    .description("Check a round that you took no part in: who was in its sum, and what was made of it.")
    .argument("<transcript>", "round-<n>.transcript of a saved release")
    .option("--manifest <file>", "also check that this manifest claims what the round was")
    .option("--sum <files...>", "also check these packed sums, one per cohort: round-<n>.sum")
    .option(
      "--adapter <file>",
      "with --manifest: also check this file, adapter.safetensors of a saved release",
    )
    .option(
      "--parent <file>",
      "with --sum: take the step again from this adapter, round-<n>.parent.safetensors",
    )
    .option("--state <file>", "with --parent: the strategy's state before the step, round-<n>.state")
    .option("--previous <file>", "also check where that state came from: the previous round's transcript")
    .action((path: string, options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        mustBeLookedAt(options);
        const verified = verifyRound(await givenBy(path, options));
        mustBeTaken(options, verified);
        for (const { what, found } of verified.checks) output.say(`good  ${what}: ${found}`);
        for (const what of verified.unchecked) output.say(`      ${what}: not looked at`);
        output.result(asJson(verified), sentence(verified));
      }),
    );
}

/** What each option is looked at with; without it, it would be read and not looked at. */
const BESIDE = { adapter: "manifest", parent: "sum", state: "parent" } as const;

/** @throws Fault("bad-input") naming the option that is missing. */
function mustBeLookedAt(options: Options): void {
  for (const name of ["adapter", "parent", "state"] as const) {
    const beside = BESIDE[name];
    if (options[name] === undefined || options[beside] !== undefined) continue;
    throw new Fault("bad-input", `--${name}`, { expected: `--${beside} beside it`, got: "none" });
  }
}

/** Whether a step can be taken again is known only once the round was read. */
function mustBeTaken({ parent }: Options, { checks, unchecked }: Verified): void {
  if (parent === undefined || checks.some(({ what }) => what === "step")) return;
  const detail = unchecked.includes("step")
    ? { expected: "--state beside it: the rule of this run remembers", got: "none" }
    : { expected: "a round that trains", got: "one that only evaluates", todo: "Leave it out" };
  throw new Fault("bad-input", "--parent", detail);
}

async function givenBy(path: string, options: Options): Promise<Given> {
  const read = async (file: string | undefined, what: string) =>
    file === undefined ? undefined : await readOrSay(file, what);
  const manifest = await read(options.manifest, "manifest");
  const { sum: sums } = options;
  return {
    transcript: await readOrSay(path, "transcript"),
    authority: await authorityOf(options, "transcript"),
    nowS: Math.floor(Date.now() / 1000),
    verify: nativeVerify(),
    manifest: manifest && envelopeFromJson(new TextDecoder().decode(manifest)),
    adapter: await read(options.adapter, "adapter"),
    sums: sums && (await Promise.all(sums.map((file) => readOrSay(file, "sum")))),
    parent: await read(options.parent, "parent's adapter"),
    state: await read(options.state, "state"),
    previous: await read(options.previous, "previous transcript"),
  };
}

function asJson({ digest, task, checks, unchecked, record, transcript }: Verified) {
  const cohorts = transcript.cohorts.map(({ members, survivors, counted }) => {
    return { members: members.length, survivors, counted };
  });
  const { examples, loss, accuracy, trainLoss } = record ?? {};
  return {
    good: true,
    digest,
    run: task.run,
    round: task.round,
    cohorts,
    checks,
    unchecked,
    ...(record && { sum: { examples, loss, accuracy, trainLoss } }),
  };
}

function sentence({ task, checks, unchecked }: Verified): string {
  const left = unchecked.length > 0 ? `; not looked at: ${unchecked.join(", ")}` : "";
  return `good: round ${task.round} of run ${task.run.slice(0, 12)}, ${checks.length} checks${left}`;
}
