import { writeFile } from "node:fs/promises";
import { SCENARIOS } from "../../test/attacks/rows.ts";
import { runInChild } from "../../test/attacks/run.ts";
import type { Listed, Outcome } from "../../test/attacks/scenario.ts";
import { page, type Tried } from "../../test/attacks/table.ts";
import type { Claim } from "../claim.ts";

/** Processes at once: a mutation needs one of its own. */
const AT_ONCE = 2;
/** Kinds of attack that the table has. */
const ROWS = 18;
const PAGE = new URL("../../docs/attacks.md", import.meta.url);

export const claim: Claim = {
  name: "secagg/attacks",
  target:
    "attacks of all 18 rows: each is refused with nothing more sent, and works when its defence is taken out",
  async run(report) {
    const on = await tryAll();
    report(`with everything in place: ${[...on.values()].filter(isRefusal).length} of ${on.size} refused`);
    const tried = await spread([...SCENARIOS], async (scenario): Promise<Tried> => {
      const one = { scenario, on: on.get(scenario.name)!, off: await tryWithout(scenario) };
      report(told(one));
      return one;
    });
    const failures = tried
      .filter((one) => !holds(one))
      .map(({ scenario: { row, name } }) => `${row} ${name}`);
    const off = tried.flatMap((one) => one.off);
    const figures = {
      rows: new Set(tried.map(({ scenario }) => scenario.row)).size,
      scenarios: tried.length,
      refused: tried.filter(({ on }) => isRefusal(on)).length,
      mutations: off.length,
      workedWhenOff: off.filter(({ kind }) => kind === "worked").length,
      failures,
    };
    if (process.argv.includes("--write") && failures.length === 0) await writeFile(PAGE, page(tried));
    return { figures, holds: failures.length === 0 && figures.rows === ROWS };
  },
};

/** What `make` gives for each, in their order, two at a time. */
async function spread<From, To>(all: readonly From[], make: (one: From) => Promise<To>): Promise<To[]> {
  const made: To[] = new Array(all.length);
  const waiting = [...all.entries()];
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) made[next[0]] = await make(next[1]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return made;
}

/** With everything in place, a process for each file of attacks. */
async function tryAll(): Promise<Map<string, Outcome>> {
  const files = [...new Set(SCENARIOS.map(({ file }) => file))];
  const each = await spread(files, (file) => runInChild(SCENARIOS.filter((one) => one.file === file)));
  return new Map(each.flatMap((outcomes) => [...outcomes]));
}

/** Each mutation in a process of its own: there is no way to put a defence back. */
async function tryWithout(attack: Listed): Promise<Outcome[]> {
  const off: Outcome[] = [];
  for (const mutation of attack.mutations) {
    off.push((await runInChild([attack], mutation)).get(attack.name)!);
  }
  return off;
}

function holds({ on, off }: Tried): boolean {
  return isRefusal(on) && off.every(({ kind }) => kind === "worked");
}

function isRefusal(outcome: Outcome): boolean {
  return outcome.kind === "refused" && outcome.sentAfter === 0;
}

function told({ scenario: { row, name, mutations }, on, off }: Tried): string {
  const show = (outcome: Outcome) =>
    outcome.kind === "refused" ? outcome.because : outcome.kind === "worked" ? outcome.evidence : outcome.why;
  const without = mutations.map(({ out }, at) => `\n   without ${out}: ${off[at]!.kind}: ${show(off[at]!)}`);
  return `${row} ${name}\n   ${on.kind}: ${show(on)}${without.join("")}`;
}
