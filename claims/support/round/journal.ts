import type { House } from "./house.ts";

/** A run's first round as it became durable, through every life of the coordinator. */
export type Journal = {
  /** Whose vectors were accepted, in order; a name twice would be a vector counted twice. */
  readonly uploads: readonly string[];
  /** Shares revealed and accepted, in any round of the run. */
  readonly reveals: number;
  readonly attempts: number;
  /** Why attempts failed; none where the first one did not. */
  readonly failures: readonly string[];
  /** When the claim heard of the commit that ended the round; NaN while it has not. */
  readonly endedMs: number;
};

export function journalOf(house: House, run: string): Journal {
  const commits = house.commits.filter((commit) => commit.run === run);
  const end = commits.findIndex(({ release }) => release === 1);
  const events = (some: typeof commits) => some.flatMap((commit) => commit.events);
  const first = events(end < 0 ? commits : commits.slice(0, end));
  return {
    uploads: first.filter(({ event }) => event === "uploaded").map(({ device }) => device),
    reveals: events(commits).filter(({ event }) => event === "revealed").length,
    failures: commits.flatMap(({ header }) => (header && header.attempt > 0 ? [header.reason] : [])),
    attempts: 1 + Math.max(0, ...commits.map(({ header }) => header?.attempt ?? 0)),
    endedMs: commits[end]?.heardMs ?? Number.NaN,
  };
}
