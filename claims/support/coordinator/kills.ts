import { isDeepStrictEqual } from "node:util";
import type { Failpoint } from "@tutti/coordinator/failpoint";
import { type Audit, audit } from "./audit.ts";
import type { CoordinatorSaid } from "./coordinator.ts";
import { COORDINATOR, type House, type HouseOptions, withHouse } from "./house.ts";
import { Lives } from "./lives.ts";
import { casesOf, type Ending, HOUSES, SCENARIOS, type Scenario, type ScenarioName } from "./scenarios.ts";

/** A kill at one failpoint, and what came of it. */
export type Killed = {
  readonly failpoint: Failpoint;
  /** The coordinator died there, of SIGKILL. */
  readonly died: boolean;
  readonly ending: Ending;
  /** As without the kill, the released adapter's bytes included. */
  readonly same: boolean;
  readonly audits: readonly Audit[];
  /** Of the life after the last death; NaN where a scenario has no round to go on with. */
  readonly servingMs: number;
  readonly resumedMs: number;
};

/** The database of a house, if it is not the file in its own folder. */
export type Where = { readonly name: "sqlite" | "postgres"; url?(): Promise<string> };

/** Plays each scenario undisturbed, then once for each failpoint, with a kill there. */
export async function killAll(
  wanted: readonly Failpoint[],
  { where, report, program = COORDINATOR }: { where: Where; report: (line: string) => void; program?: URL },
): Promise<Killed[]> {
  const killed: Killed[] = [];
  for (const house of Object.keys(HOUSES) as (keyof typeof HOUSES)[]) {
    const cases = casesOf(wanted).filter(
      ([name, points]) => SCENARIOS[name].house === house && points.length > 0,
    );
    if (cases.length === 0) continue;
    const url = await where.url?.();
    const options: HouseOptions = HOUSES[house];
    const config = { ...options.config, ...(url && { store: { engine: "postgres", url } }) };
    await withHouse({ ...options, watch: "commits", config, program }, async (open) => {
      for (const [name, points] of cases) {
        const undisturbed = await undisturbedPlay(open, name);
        report(`${where.name}, ${name}: ${JSON.stringify(undisturbed.ending)}`);
        for (const failpoint of points) {
          const met = await killedAt(open, name, { failpoint, undisturbed: undisturbed.ending, url });
          report(`${where.name}, ${failpoint}: ${said(met)}`);
          killed.push(met);
        }
      }
    });
  }
  return killed;
}

/** One of them asks the coordinator to end, and has it started again. */
async function undisturbedPlay(house: House, name: ScenarioName): Promise<{ ending: Ending }> {
  const lives = new Lives(house, async () => {});
  try {
    return await play(house, name, { tag: `${name}-undisturbed` });
  } finally {
    await lives.end();
  }
}

/** What must be so of every kill. */
export function isHarmless({ died, same, audits }: Killed): boolean {
  return died && same && audits.every(({ lost, twice }) => lost === 0 && twice === 0);
}

function said({ died, same, ending, audits, servingMs, resumedMs }: Killed): string {
  const lost = audits.reduce((sum, one) => sum + one.lost + one.twice, 0);
  const outcome = !died ? "was not passed" : same ? "the same" : `another end: ${JSON.stringify(ending)}`;
  const back = `serving after ${Math.round(servingMs)} ms, going on after ${Math.round(resumedMs)} ms`;
  return `${outcome}; ${back}${lost > 0 ? `; LOST OR TWICE: ${JSON.stringify(audits)}` : ""}`;
}

type About = { failpoint: Failpoint; undisturbed: Ending; url: string | undefined };

async function killedAt(house: House, name: ScenarioName, about: About): Promise<Killed> {
  const { failpoint, undisturbed, url } = about;
  const scenario: Scenario = SCENARIOS[name];
  const audits: Audit[] = [];
  const lives = new Lives(house, async () => void audits.push(await audit(house, url)));
  try {
    const arm = scenario.first ?? failpoint;
    if (scenario.first) lives.next({ TUTTI_FAILPOINT: failpoint });
    const tag = `${name}-${failpoint}`;
    const { ending } = await play(house, name, { tag, arm });
    const deaths = lives.all.filter(({ ended }) => ended === "SIGKILL").length;
    const last = lives.all.at(-1);
    return {
      failpoint,
      died: deaths === (scenario.first ? 2 : 1),
      ending,
      same: isDeepStrictEqual(ending, undisturbed),
      audits,
      servingMs: last?.servingMs ?? Number.NaN,
      resumedMs: last?.resumedMs ?? Number.NaN,
    };
  } finally {
    await lives.end();
  }
}

/** Plays a scenario, with what it needs armed and, if asked for, one failpoint beside it. */
async function play(
  house: House,
  name: ScenarioName,
  { tag, arm }: { tag: string; arm?: Failpoint },
): Promise<{ ending: Ending }> {
  const scenario: Scenario = SCENARIOS[name];
  const armed = [scenario.armed, arm].filter(Boolean).join(",");
  const { coordinator } = house;
  coordinator.tell({ arm: armed });
  if (armed) await coordinator.until((said) => isArmed(said, armed));
  return { ending: await scenario.play(house, tag) };
}

function isArmed(said: CoordinatorSaid, armed: string): said is CoordinatorSaid & { kind: "armed" } {
  return said.kind === "armed" && said.with === armed;
}
