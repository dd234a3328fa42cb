import type { Outcome, Scenario } from "./scenario.ts";

/** What a scenario did with everything in place, and with each of its mutations. */
export type Tried = {
  readonly scenario: Scenario;
  readonly on: Outcome;
  /** In the order of the scenario's mutations. */
  readonly off: readonly Outcome[];
};

const ROWS: Readonly<Record<number, string>> = {
  1: "different survivor sets to different devices",
  2: "both shares of one device",
  3: "invented devices",
  4: "substituted or weak session keys",
  5: "another model or another task to one device",
  6: "a task for undeclared tensors, or an unsigned base",
  7: "replay from another round or session",
  8: "a vector after the survivors are sealed",
  9: "cohort, threshold or survivors below the device's floor",
  10: "the same round summed twice over subsets",
  11: "values, weights or metrics out of range; wrap-around",
  12: "predictable masks",
  13: "malformed, swapped or truncated shares and envelopes",
  14: "partial lists that isolate a device",
  15: "a device alone on a coordinate",
  16: "keys in logs and errors",
  17: "malleable signatures",
  18: "a wrong sum published",
};

const HEAD = `# Attacks

Written by \`npm run attacks\`, which runs every attack here twice: against the code as it is, and against the
same code with the named defence taken out of its source, as it is loaded. The first must be refused, with
nothing more sent; the second must work. \`npm test\` runs the first half of it all, and some of the second.

"Coordinator" is a malicious coordinator, over gRPC, against a real device; "device" a malicious device
against a real coordinator; "unit" a part where it lives. Comments cite an attack by its number: attack 7.
`;

const COLUMNS = `| no. | attack | by | refused with | taken out | then |
| --- | --- | --- | --- | --- | --- |`;

/** The page: what was seen, in words that are the same at every run. */
export function page(tried: readonly Tried[]): string {
  const parts = Object.keys(ROWS)
    .map(Number)
    .map((row) => {
      const own = tried.filter(({ scenario }) => scenario.row === row);
      if (own.length === 0) return `## ${row}: ${ROWS[row]}\n\nNone here yet.\n`;
      return `## ${row}: ${ROWS[row]}\n\n${COLUMNS}\n${own.map(line).join("\n")}\n`;
    });
  return `${HEAD}\n${parts.join("\n")}`;
}

function line({ scenario, on, off }: Tried): string {
  const { row, name, harness, mutations } = scenario;
  const out = mutations.map((mutation) => defence(mutation.out, mutation.patches.length));
  const cells = [row, name, harness, seen(on), out.join("; or "), off.map(seen).join("; or ")];
  return `| ${cells.map((cell) => `${cell}`.replaceAll("|", "/")).join(" | ")} |`;
}

/** In depth: how many places hold it. */
function defence(out: string, places: number): string {
  return places === 1 ? out : `${out} (${places} places)`;
}

/** Keys, hashes and times differ at every run. */
function seen(outcome: Outcome): string {
  const text =
    outcome.kind === "refused" ? outcome.because : outcome.kind === "worked" ? outcome.evidence : outcome.why;
  const steady = text.replace(/\b[0-9a-f]{8,}\b/g, "…").replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "…");
  return outcome.kind === "broken" ? "BROKEN" : steady.replace(/\s+/g, " ").slice(0, 200);
}

/** Row and name of each attack on the page. */
export function listed(text: string): string[] {
  return [...text.matchAll(/^\| (\d+) \| (.+?) \| /gm)].map(([, row, name]) => `${row} ${name}`);
}
