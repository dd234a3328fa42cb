import { FAILPOINTS } from "@tutti/coordinator/failpoint";
import type { Claim } from "../claim.ts";
import { built } from "../support/built.ts";
import { COORDINATOR } from "../support/coordinator/house.ts";
import { isHarmless, type Killed, killAll, type Where } from "../support/coordinator/kills.ts";
import { NO_POSTGRES, SKIP_POSTGRES } from "../support/postgres/binaries.ts";
import { Cluster } from "../support/postgres/cluster.ts";

/** How soon a coordinator that was killed must serve, and its round go on: from the start of its process. */
const BACK_MS = 5_000;
const FEWEST = 40;
/** Places where nothing is left to go on with. */
const MOST_WITHOUT_ROUND = 2;

export const claim: Claim = {
  name: "coordinator/kill",
  target:
    `a coordinator's process, built, killed (SIGKILL) at each of at least ${FEWEST} named places, on ` +
    "SQLite and on PostgreSQL, is started again and goes on: no acknowledged upload lost, none counted " +
    "twice, the same release bit for bit; each time it serves within " +
    `${BACK_MS / 1000} s, and wherever a round was going on it goes on within ${BACK_MS / 1000} s (at ` +
    `all but at most ${MOST_WITHOUT_ROUND} of the places)`,
  async run(report) {
    const program = await built(COORDINATOR);
    const sqlite = await killAll(FAILPOINTS, { where: { name: "sqlite" }, report, program });
    const postgres = await onPostgres(report, program);
    const engines = { sqlite: figuresOf(sqlite), ...(postgres && { postgres: figuresOf(postgres) }) };
    const figures = { failpoints: FAILPOINTS.length, ...engines, ...(!postgres && { skipped: NO_POSTGRES }) };
    const all = [...sqlite, ...(postgres ?? [])];
    const holds =
      postgres !== null &&
      FAILPOINTS.length >= FEWEST &&
      all.length === 2 * FAILPOINTS.length &&
      all.every(isHarmless) &&
      Object.values(engines).every(
        ({ acknowledgedAtDeath, servingMs, goingOnMs }) =>
          acknowledgedAtDeath > 0 &&
          isSoon(servingMs, FAILPOINTS.length) &&
          isSoon(goingOnMs, FAILPOINTS.length - MOST_WITHOUT_ROUND),
      );
    return { figures, holds };
  },
};

async function onPostgres(report: (line: string) => void, program: URL): Promise<Killed[] | null> {
  if (SKIP_POSTGRES) return null;
  const cluster = await Cluster.open();
  try {
    const where: Where = { name: "postgres", url: () => cluster.database() };
    return await killAll(FAILPOINTS, { where, report, program });
  } finally {
    await cluster.close();
  }
}

function figuresOf(killed: readonly Killed[]) {
  const audits = killed.flatMap(({ audits }) => audits);
  const sum = (of: (audit: (typeof audits)[number]) => number) =>
    audits.reduce((all, one) => all + of(one), 0);
  return {
    killed: killed.filter(({ died }) => died).length,
    sameEnd: killed.filter(({ same }) => same).length,
    acknowledgedAtDeath: sum(({ acknowledged }) => acknowledged),
    lost: sum(({ lost }) => lost),
    twice: sum(({ twice }) => twice),
    servingMs: spread(killed.map(({ servingMs }) => servingMs)),
    goingOnMs: spread(killed.map(({ resumedMs }) => resumedMs)),
    notHarmless: killed.filter((one) => !isHarmless(one)).map(({ failpoint }) => failpoint),
  };
}

type Spread = { readonly measured: number; readonly median: number; readonly worst: number };

/** Of what was measured: some scenarios have no round to go on with. */
function spread(times: readonly number[]): Spread {
  const sorted = times.filter((ms) => !Number.isNaN(ms)).sort((a, b) => a - b);
  const [median = Number.NaN, worst = Number.NaN] = [sorted[sorted.length >> 1], sorted.at(-1)];
  return { measured: sorted.length, median: Math.round(median), worst: Math.round(worst) };
}

function isSoon({ measured, worst }: Spread, fewest: number): boolean {
  return measured >= fewest && worst <= BACK_MS;
}
