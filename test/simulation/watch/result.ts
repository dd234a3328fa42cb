import { equalBytes, hex } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { combineResults, nextFiles, readSum } from "@tutti/round/result";
import { verifyRound } from "@tutti/round/verify";
import type { Transcript } from "@tutti/wire/transcript";
import { AUTHORITY, verify } from "../cast.ts";
import { WALL_START_MS } from "../life.ts";
import { Violation } from "../witness.ts";
import type { World } from "../world.ts";
import { type Closed, file } from "./closed.ts";
import { addsUp } from "./late.ts";
import { Oracle } from "./oracle.ts";

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
    // Noise is another in every session.
    if (plan.privacy) continue;
    const isSum = (_: Uint32Array, packed: Uint8Array) => hex(sumHash) === sha256Hex(packed);
    if (!(await addsUp(world, { devices: survivors, closed, oracle }, isSum)))
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
    const trust = { authority: AUTHORITY, nowS: Math.floor(WALL_START_MS / 1000) + 2 * 86_400, verify };
    const given = { ...trust, transcript, parent };
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
  if (header.version === before.version) return;
  const spec = { plan, task, attempt, expected: new Set<string>() };
  const held = before.strategy ? file(world, before.strategy, "a strategy's state") : undefined;
  const gives = (words: Uint32Array) => {
    const result = readSum(spec, words, { devices: header.cohort.length, size: null });
    const next = nextFiles(spec, { parent, mean: combineResults(spec, [result]), held });
    return equalBytes(next.adapter, adapter);
  };
  if (!(await addsUp(world, { devices: header.cohort, closed, oracle }, gives)))
    throw new Violation(`release ${header.version} is not what the words of ${header.cohort.join(" ")} give`);
}
