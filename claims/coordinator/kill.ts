import { FAILPOINTS } from "@tutti/coordinator/failpoint";
import type { Claim } from "../claim.ts";
import { isHarmless, type Killed, killAll, type Where } from "../support/coordinator/kills.ts";
import { NO_POSTGRES, SKIP_POSTGRES } from "../support/postgres/binaries.ts";
import { Cluster } from "../support/postgres/cluster.ts";

/** How soon a coordinator that was killed must serve, and its round go on: from the start of its process. */
const BACK_MS = 5_000;
const FEWEST = 40;

export const claim: Claim = {
  name: "coordinator/kill",
  target:
    `a coordinator process killed (SIGKILL) at each of at least ${FEWEST} named places, on SQLite and on ` +
    "PostgreSQL, is started again and goes on: no acknowledged upload lost, none counted twice, the same " +
    `release bit for bit; it serves and its round goes on within ${BACK_MS / 1000} s (medians)`,
  async run(report) {
    const sqlite = await killAll(FAILPOINTS, { where: { name: "sqlite" }, report });
    const postgres = await onPostgres(report);
    const engines = { sqlite: figuresOf(sqlite), ...(postgres && { postgres: figuresOf(postgres) }) };
    const figures = { failpoints: FAILPOINTS.length, ...engines, ...(!postgres && { skipped: NO_POSTGRES }) };
    const all = [...sqlite, ...(postgres ?? [])];
    const holds =
      postgres !== null &&
      FAILPOINTS.length >= FEWEST &&
      all.length === 2 * FAILPOINTS.length &&
      all.every(isHarmless) &&
      Object.values(engines).every(
        ({ servingMs, goingOnMs }) => servingMs.median <= BACK_MS && goingOnMs.median <= BACK_MS,
      );
    return { figures, holds };
  },
};

async function onPostgres(report: (line: string) => void): Promise<Killed[] | null> {
  if (SKIP_POSTGRES) return null;
  const cluster = await Cluster.open();
  try {
    const where: Where = { name: "postgres", url: () => cluster.database() };
    return await killAll(FAILPOINTS, { where, report });
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

/** Of what was measured: some scenarios have no round to go on with. */
function spread(times: readonly number[]): { median: number; worst: number } {
  const sorted = times.filter((ms) => !Number.isNaN(ms)).sort((a, b) => a - b);
  return { median: Math.round(sorted[sorted.length >> 1] ?? 0), worst: Math.round(sorted.at(-1) ?? 0) };
}
