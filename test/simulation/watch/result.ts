import { equalBytes, hex } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { packBits, unpackBits } from "@tutti/kernels/pack";
import { addInto } from "@tutti/kernels/ring";
import type { Plan } from "@tutti/plan/plan";
import { combineResults, nextFiles, readSum } from "@tutti/round/result";
import { termsOf } from "@tutti/round/spec";
import { verifyRound } from "@tutti/round/verify";
import type { RunHeader } from "@tutti/wire/journal";
import type { SignedEnvelope } from "@tutti/wire/release";
import type { Task } from "@tutti/wire/round";
import type { Transcript } from "@tutti/wire/transcript";
import { AUTHORITY, verify } from "../cast.ts";
import { EPOCH_MS } from "../life.ts";
import { Violation } from "../witness.ts";
import type { World } from "../world.ts";
import { Oracle } from "./oracle.ts";

type Held = { readonly digest: string; readonly envelope: SignedEnvelope };

/** A round that ended with a result, as it is durable. */
export type Closed = {
  readonly plan: Plan;
  readonly planEnvelope: SignedEnvelope;
  readonly task: Task;
  readonly attempt: number;
  /** The run's header before the round ended, and after. */
  readonly before: RunHeader;
  readonly header: RunHeader;
  readonly parent: Held;
  /** The newest release after it. */
  readonly made: Held;
};

/** Pure, and the same questions in many seeds. */
const oracle = new Oracle();

/** The round's result is what its devices' words give, bit for bit, and its papers are whole. */
export async function checkResult(world: World, closed: Closed): Promise<void> {
  const { header, plan } = closed;
  const record = header.history.at(-1)!;
  const parent = file(world, closed.before.adapter, "a parent's adapter");
  const adapter = file(world, header.adapter, "an adapter");
  if (record.transcript === "") return await checkPlain(closed, { parent, adapter, world });
  const transcript = verified(world, closed, { parent, adapter });
  for (const { survivors, sumHash } of transcript.cohorts) {
    // Noise is another in every session, and how late an update is only its device knows.
    if (plan.privacy || plan.staleness) continue;
    const expected = await summed(survivors, closed, parent);
    if (hex(sumHash) !== sha256Hex(expected.packed))
      throw new Violation(
        `the sum of ${survivors.join(" ")} in round ${record.round} is not that of their words`,
      );
  }
}

/** As a third party checks it (`tutti verify-round`), with everything that is there. */
function verified(
  world: World,
  { before, header, made }: Closed,
  { parent, adapter }: { parent: Uint8Array; adapter: Uint8Array },
): Transcript {
  const record = header.history.at(-1)!;
  const transcript = file(world, record.transcript, "a transcript");
  const open = () => {
    const trust = { authority: AUTHORITY, nowS: Math.floor(EPOCH_MS / 1000) + 2 * 86_400, verify };
    const given = { ...trust, file: transcript, parent };
    const { transcript: opened } = verifyRound(given);
    const sums = opened.cohorts.map(({ sumHash }) => file(world, hex(sumHash), "a sum"));
    const state = before.strategy ? file(world, before.strategy, "a strategy's state") : undefined;
    const trained = header.version > before.version;
    verifyRound({ ...given, sums, state, ...(trained && { adapter, manifest: made.envelope }) });
    return opened;
  };
  try {
    return open();
  } catch (error) {
    if (error instanceof Violation) throw error;
    throw new Violation(`round ${record.round} does not verify: ${(error as Error).message}`);
  }
}

async function checkPlain(
  closed: Closed,
  { parent, adapter, world }: { parent: Uint8Array; adapter: Uint8Array; world: World },
): Promise<void> {
  const { header, before, plan, task, attempt } = closed;
  if (plan.secureAggregation.enabled) throw new Violation(`round ${task.round} has no transcript`);
  if (header.version === before.version || plan.staleness) return;
  const { words } = await summed(header.cohort, closed, parent);
  const spec = { plan, task, attempt, expected: new Set<string>() };
  const result = readSum(spec, words, { devices: header.cohort.length, size: null });
  const held = before.strategy ? file(world, before.strategy, "a strategy's state") : undefined;
  const next = nextFiles(spec, { parent, mean: combineResults(spec, [result]), held });
  if (!equalBytes(next.adapter, adapter))
    throw new Violation(`release ${header.version} is not what the words of ${header.cohort.join(" ")} give`);
}

/** The ring sum of what these devices' rows give, modulo 2^bits. */
async function summed(
  devices: readonly string[],
  { plan, task, attempt, parent }: Closed,
  adapter: Uint8Array,
): Promise<{ words: Uint32Array; packed: Uint8Array }> {
  const { bits, length } = termsOf({ plan, task, attempt });
  const sum = new Uint32Array(length);
  for (const device of devices)
    addInto(sum, await oracle.words(device, { plan, task, manifest: parent.envelope, adapter }));
  const packed = packBits(sum, bits);
  return { words: unpackBits(packed, bits, length), packed };
}

function file({ shelf }: World, sha256: string, what: string): Uint8Array {
  const bytes = shelf.get(sha256);
  if (bytes) return bytes;
  throw new Violation(`${what} is named by what is durable, and is not there: ${sha256.slice(0, 12)}`);
}
