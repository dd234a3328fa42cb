import {
  keepRevoked,
  readKnown,
  readRevoked,
  renewRoles,
  writeKnown,
} from "@tutti/coordinator/folder/authority";
import { openAuthority } from "@tutti/coordinator/folder/federation";
import { answerRenewals } from "@tutti/coordinator/folder/renewals";
import { systemClock } from "@tutti/foundation/clock";
import { asFault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { openRevocations, signRevocations } from "@tutti/release/revocations";
import { RevokeRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import {
  GrantRequestSchema,
  type RenewalRequest,
  RenewalsRequestSchema,
  RevocationListSchema,
  RevocationsRequestSchema,
} from "@tutti/wire/standing";
import { Command } from "commander";
import { integerIn, withContext } from "../../action.ts";
import type { Output } from "../../output.ts";
import { asOwner, asRegistrar } from "../../owner.ts";

type Options = {
  federation: string;
  watch?: boolean;
  every: number;
  maxDays: number;
  graceDays: number;
};
type Signed = { granted: string[]; refused: { device: string; because: string }[]; renewed: string[] };

export function signCommand(): Command {
  return new Command("sign")
    .description(
      "Sign the renewals that devices ask for, and renew the coordinator's and owner's certificates when " +
        "they near their end. Fetches and uploads over the coordinator's port; the key stays here.",
    )
    .option("--federation <folder>", "federation folder with the authority's and owner's keys", "federation")
    .option("--watch", "go on, until Ctrl-C")
    .option("--every <seconds>", "with --watch: how often to look", integerIn(1, 86_400), 30)
    .option("--max-days <number>", "make no certificate for longer", integerIn(1, 3650), 365)
    .option("--grace-days <number>", "sign for devices that expired so long ago", integerIn(0, 3650), 30)
    .action((options: Options, command: Command) =>
      withContext(command, async (context) => {
        const { output } = context;
        if (options.watch) return await watch(options, output, context.signal);
        const signed = await sign(options, output);
        output.result(signed, sentence(signed));
      }),
    );
}

async function watch(options: Options, output: Output, signal: AbortSignal): Promise<void> {
  const clock = systemClock();
  const all: Signed = { granted: [], refused: [], renewed: [] };
  while (!signal.aborted) {
    try {
      const signed = await sign(options, output);
      all.granted.push(...signed.granted);
      all.renewed.push(...signed.renewed);
    } catch (error) {
      // A coordinator that is away comes back; what is wrong here does not mend itself.
      const fault = asFault(error);
      if (fault.code !== "unavailable" && fault.code !== "deadline") throw error;
      output.say(fault.message);
    }
    await clock.sleep(options.every * 1000, signal).catch(() => {});
  }
  output.result(all, sentence(all));
}

async function sign(options: Options, output: Output): Promise<Signed> {
  const { federation: folder, maxDays, graceDays } = options;
  const [random, nowMs] = [platformRandom(), Date.now()];
  const authority = await openAuthority(folder);
  const renewed = await renewRoles(folder, { authority, random, nowMs });
  for (const role of renewed) output.say(`${role}: certificate renewed; it counts from the next start on`);
  const answers = await asRegistrar(folder, async (register) => {
    const trust = { authority: authority.publicKey, nowS: Math.floor(nowMs / 1000) };
    const envelope = await register.revocations(create(RevocationsRequestSchema));
    if (envelope.payload.length > 0) openRevocations(envelope, trust);
    const revocations =
      envelope.payload.length > 0
        ? await keepRevoked(folder, { envelope, random })
        : await readRevoked(folder);
    const requests: RenewalRequest[] = [];
    for await (const request of register.renewals(create(RenewalsRequestSchema))) requests.push(request);
    const known = await readKnown(folder);
    const rules = { authority, maxDays, graceDays, revocations, known, random, nowMs };
    const answered = answerRenewals(requests, rules);
    // On disk before anybody hears of it.
    if (answered.granted.length > 0) await writeKnown(folder, { known: answered.known, random });
    for (const { device, grant } of answered.granted)
      await register.grant(create(GrantRequestSchema, { device, grant }));
    return { ...answered, revocations };
  });
  for (const { device, days } of answers.granted) output.say(`${device}: signed for ${days} days`);
  for (const { device, because } of answers.refused) output.say(`${device}: refused: ${because.message}`);
  if (renewed.includes("owner")) await signRevokedAnew(folder, answers.revocations, nowMs);
  return {
    granted: answers.granted.map(({ device }) => device),
    refused: answers.refused.map(({ device, because }) => ({ device, because: because.message })),
    renewed,
  };
}

/** A list whose owner's certificate has ended is taken by no device that does not have it yet. */
async function signRevokedAnew(
  folder: string,
  before: Awaited<ReturnType<typeof readRevoked>>,
  nowMs: number,
): Promise<void> {
  const [first] = before.revocations;
  if (!first) return;
  await asOwner(folder, async (admin, owner) => {
    const madeAtS = Math.floor(nowMs / 1000);
    const list = create(RevocationListSchema, { ...before, version: before.version + 1, madeAtS });
    const revocations = signRevocations(list, owner);
    await admin.revoke(create(RevokeRequestSchema, { device: first.name, revocations }));
    await keepRevoked(folder, { envelope: revocations, random: platformRandom() });
  });
}

function sentence({ granted, refused, renewed }: Signed): string {
  const roles = renewed.length > 0 ? `; renewed: ${renewed.join(", ")}` : "";
  return `${granted.length} signed, ${refused.length} refused${roles}`;
}
