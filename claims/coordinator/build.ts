import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initFederation } from "@tutti/coordinator/folder/init";
import { platformRandom } from "@tutti/foundation/random";
import type { Claim } from "../claim.ts";
import { built } from "../support/built.ts";
import type { StandingSaid } from "../support/coordinator/standing.ts";
import { freePort } from "../support/free-port.ts";
import { Child } from "../support/round/child.ts";

const LAPS = 5;
const MOST_SHARE = 0.6;
const SOURCE = new URL("../support/coordinator/standing.ts", import.meta.url);

export const claim: Claim = {
  name: "coordinator/build",
  target:
    "a coordinator that was built serves after, and then holds in memory, at most " +
    `${MOST_SHARE} of what one needs that runs from its sources (median of ${LAPS} each, in turn)`,
  async run(report) {
    const program = await built(SOURCE);
    const place = await mkdtemp(join(tmpdir(), "tutti-claim-"));
    const folder = join(place, "federation");
    const about = { folder, name: "start", host: "127.0.0.1", port: await freePort() };
    try {
      await initFederation({ ...about, random: platformRandom(), nowMs: Date.now() });
      const sources: Start[] = [];
      const plain: Start[] = [];
      for (let lap = 0; lap < LAPS; lap++) {
        sources.push(await start(SOURCE, place));
        plain.push(await start(program, place));
        report(`${JSON.stringify(sources.at(-1))} ${JSON.stringify(plain.at(-1))}`);
      }
      const figures = { sources: medianOf(sources), built: medianOf(plain) };
      const holds =
        figures.built.servingMs <= MOST_SHARE * figures.sources.servingMs &&
        figures.built.residentMB <= MOST_SHARE * figures.sources.residentMB;
      return { figures, holds };
    } finally {
      await rm(place, { recursive: true, force: true });
    }
  },
};

type Start = { readonly servingMs: number; readonly residentMB: number };

async function start(program: URL, place: string): Promise<Start> {
  const sinceMs = performance.now();
  const child = new Child<StandingSaid>(program, { folder: join(place, "federation") }, join(place, "log"));
  try {
    await child.until((said) => said.kind === "serving");
    const servingMs = Math.round(performance.now() - sinceMs);
    const holds = await child.until((said) => said.kind === "holds");
    return { servingMs, residentMB: Math.round(holds.residentBytes / 1e6) };
  } finally {
    await child.kill();
  }
}

function medianOf(starts: readonly Start[]): Start {
  const median = (of: (one: Start) => number) =>
    starts.map(of).sort((a, b) => a - b)[LAPS >> 1] ?? Number.NaN;
  return { servingMs: median((one) => one.servingMs), residentMB: median((one) => one.residentMB) };
}
