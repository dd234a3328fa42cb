import { secretOf } from "./cast.ts";
import { MOST_STOPS, planFaults } from "./faults.ts";
import { without } from "./real.ts";
import { restless } from "./rest.ts";
import { type Scenario, scenarioOf } from "./scenario.ts";
import { Transcript } from "./transcript.ts";
import { Books } from "./watch/books.ts";
import { Durable } from "./watch/durable.ts";
import { Endings } from "./watch/endings.ts";
import { Revoked } from "./watch/revoked.ts";
import { Secrecy } from "./watch/secrecy.ts";
import { Sessions } from "./watch/sessions.ts";
import { Sums } from "./watch/sums.ts";
import { WholeDevices } from "./watch/whole.ts";
import { Violation, Witness } from "./witness.ts";
import { World } from "./world.ts";

/** What a seed came to. */
export type Verdict = {
  readonly seed: number;
  /** What was broken; null where every promise was kept. */
  readonly violation: string | null;
  /** How often each kind of fault struck. */
  readonly strikes: Readonly<Record<string, number>>;
  /** How often what seeds should lead to came about. */
  readonly met: Readonly<Record<string, number>>;
  /** Of each run: how it ended. */
  readonly runs: readonly string[];
  /** Rounds that ended with a result. */
  readonly rounds: number;
  readonly virtualMs: number;
  readonly lines: number;
  /** SHA-256 of the transcript: the same for the same seed. */
  readonly trace: string;
  /** The transcript's last lines, of a failure. */
  readonly last: readonly string[];
};

/** Devices take what they were told after the last run's end. */
const SETTLE_MS = 15_000;

/** Simulates one seed, from its beginning to the end of its runs. */
export async function simulate(seed: number, read: ((line: string) => void) | null = null): Promise<Verdict> {
  const transcript = new Transcript(read);
  const secret = secretOf("what packages draw", seed);
  let stray: unknown = null;
  const onStray = (error: unknown) => {
    stray ??= error;
  };
  process.on("unhandledRejection", onStray);
  try {
    return await without(
      (length) => secret.bytes(length),
      async () => {
        const world = newWorld(scenarioOf(seed), transcript);
        const violation = (await lived(world, () => stray)) ?? (await world.database.trouble());
        world.database.close();
        return verdictOf(seed, { world, violation, transcript });
      },
    );
  } finally {
    process.off("unhandledRejection", onStray);
  }
}

function newWorld(scenario: Scenario, transcript: Transcript): World {
  const books = new Books();
  const sessions = new Sessions(books);
  const secrecy = new Secrecy(sessions);
  const watchers = [
    books,
    sessions,
    new Durable(books, sessions),
    secrecy,
    new Sums(books, sessions, secrecy),
    new Endings(),
    new WholeDevices(books),
    new Revoked(books),
  ];
  return new World(scenario, { transcript, witness: new Witness(watchers) });
}

/** To its end, or to the first promise that is broken. */
async function lived(world: World, stray: () => unknown): Promise<string | null> {
  const { scenario, timeline, witness } = world;
  planFaults(world);
  world.boot();
  for (const name of scenario.devices) world.bootDevice(name, world.chance.uniform() * 400);
  let doneMs = Number.POSITIVE_INFINITY;
  world.conduct().then(
    () => {
      doneMs = Math.min(timeline.nowMs, timeline.nowMs) + SETTLE_MS;
    },
    (error) => {
      witness.failure ??= error;
    },
  );
  const mustRest = restless(timeline, { mostMs: longest(scenario) });
  try {
    await timeline.run(async () => {
      await witness.check(world);
      if (stray() !== null) throw stray();
      mustRest(timeline);
      return timeline.nowMs > doneMs && world.owner.revoking.size === 0;
    });
    return null;
  } catch (error) {
    if (error instanceof Violation) return error.message;
    return error instanceof Error ? `${error.message}\n${error.stack}` : String(error);
  }
}

/** Every attempt to its last deadline, after the calm: beyond it nothing can still be in progress. */
function longest({ plans, calmMs, resumes }: Scenario): number {
  const runs = plans.map(({ rounds, attempts, deadlines }) => {
    const attempt = deadlines.joinMs + deadlines.trainMs + 6 * deadlines.stageMs + 5_000;
    return (rounds + 1 + resumes + MOST_STOPS) * attempts * attempt;
  });
  // One more may have been started just before the calm.
  return calmMs + 60_000 + SETTLE_MS + Math.max(...runs) + runs.reduce((sum, ms) => sum + ms, 0);
}

function verdictOf(
  seed: number,
  { world, violation, transcript }: { world: World; violation: string | null; transcript: Transcript },
): Verdict {
  return {
    seed,
    violation,
    strikes: Object.fromEntries(world.strikes),
    met: Object.fromEntries(world.met),
    runs: world.ended.map(({ state, reason }) => (reason ? `${state}: ${reason}` : state)),
    rounds: world.database.releases,
    virtualMs: Math.round(world.timeline.nowMs),
    lines: transcript.lines,
    trace: transcript.digest(),
    last: violation === null ? [] : transcript.last.slice(-60),
  };
}
