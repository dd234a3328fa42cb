import { ROSTER } from "./rows/roster.ts";
import { ROUNDS } from "./rows/rounds.ts";
import { SURVIVORS } from "./rows/survivors.ts";
import type { Scenario } from "./scenario.ts";

/** Every attack, by row. */
export const SCENARIOS: readonly Scenario[] = [...SURVIVORS, ...ROSTER, ...ROUNDS].sort(
  (a, b) => a.row - b.row,
);
