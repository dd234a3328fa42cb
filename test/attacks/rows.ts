import { DEVICES } from "./rows/devices.ts";
import { MASKS } from "./rows/masks.ts";
import { RECORDS } from "./rows/records.ts";
import { ROSTER } from "./rows/roster.ts";
import { ROUNDS } from "./rows/rounds.ts";
import { SPARSE } from "./rows/sparse.ts";
import { SURVIVORS } from "./rows/survivors.ts";
import { TASKS } from "./rows/tasks.ts";
import { UNITS } from "./rows/units.ts";
import type { Listed, Scenario } from "./scenario.ts";

/** By the file of `rows/` that each is in: a process for one attack loads no other file. */
const FILES: Readonly<Record<string, readonly Scenario[]>> = {
  survivors: SURVIVORS,
  roster: ROSTER,
  tasks: TASKS,
  rounds: ROUNDS,
  masks: MASKS,
  devices: DEVICES,
  sparse: SPARSE,
  units: UNITS,
  records: RECORDS,
};

/** Every attack, by row. */
export const SCENARIOS: readonly Listed[] = Object.entries(FILES)
  .flatMap(([file, scenarios]) => scenarios.map((scenario) => ({ ...scenario, file })))
  .sort((a, b) => a.row - b.row);
