import { readdirSync, readFileSync } from "node:fs";
import { readConfig, readIdentity } from "@tutti/client-sdk/node/folder";
import { equalBytes } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import { putArtifact } from "tutti/owner";
import type { Claim } from "../claim.ts";
import { ATTACKS, type Target } from "../support/chaos/attacks.ts";
import { Raw } from "../support/chaos/raw.ts";
import { Replays } from "../support/chaos/replays.ts";
import { type House, noopRun, withHouse } from "../support/coordinator/house.ts";

const LARGE_BYTES = 64 << 20;
const MOST_MORE_BYTES = 150e6;
/** What a round is in, as its state machine has it (libs/round/src/state.ts). */
const PHASES = ["gathering", "training", "summing", "unmasking"];
/** By then every request was replayed in every phase, or some phase is too short for it. */
const MOST_ROUNDS = 60;
/** Whom honest rounds ask: devices that say what they are, which the hostile one does not. */
const HONEST = { sdk: ">=0.0.1" };

export const claim: Claim = {
  name: "coordinator/hostile",
  target:
    `${ATTACKS.length} attacks are refused or cut as they should be; every signed request of a device, ` +
    "sent again byte for byte in every phase of a round, is refused as a replay; honest rounds go on " +
    "meanwhile, each with the exact sum; files that are open come back to what they were",
  async run(report) {
    const options = { devices: 3, processes: 1, inMemory: true, watch: "phases" } as const;
    return await withHouse(options, async (house) => {
      const pid = pidOf(house.federation);
      const undisturbed = await round(house, "undisturbed");
      const target = await targetOf(house);
      const before = held(pid);
      let most = before.residentBytes;
      const watching = setInterval(() => {
        most = Math.max(most, held(pid).residentBytes);
      }, 250);
      let attacking = true;
      const table: Record<string, string> = {};
      const attacks = Promise.all(
        ATTACKS.map(async ({ name, expected, run }) => {
          const { got, good } = await run(target).catch((error) => ({ got: `${error}`, good: false }));
          table[name] = got;
          report(`${good ? "as expected" : "NOT AS EXPECTED"}: ${name}: expected ${expected}, got ${got}`);
          return good;
        }),
      ).finally(() => {
        attacking = false;
      });
      const exact: boolean[] = [];
      while (attacking) exact.push(equalBytes(await round(house, `round-${exact.length}`), undisturbed));
      const good = (await attacks).filter(Boolean).length;
      const replays = await replayed(house, target, { undisturbed, exact });
      report(`replayed: ${JSON.stringify(Object.fromEntries(replays.refused))}`);
      clearInterval(watching);
      // The last of the closed connections are gone by then.
      await new Promise((resolve) => setTimeout(resolve, 20_000));
      const after = held(pid);
      const figures = {
        attacks: ATTACKS.length,
        asExpected: good,
        honestRounds: exact.length,
        exact: exact.filter(Boolean).length,
        residentMoreMB: Math.round((most - before.residentBytes) / 1e6),
        filesBefore: before.files,
        filesAfter: after.files,
        replays: sum([...replays.refused.values()]),
        replaysNotRefused: replays.taken.slice(0, 5),
        notReplayed: replays.missing(PHASES),
        table,
      };
      const calm = most - before.residentBytes <= MOST_MORE_BYTES && after.files <= before.files + 3;
      const noneAgain = replays.taken.length === 0 && replays.missing(PHASES).length === 0;
      const honest = exact.length > 0 && exact.every(Boolean);
      return { figures, holds: good === ATTACKS.length && noneAgain && honest && calm };
    });
  },
};

/** Honest rounds, and every request of the hostile device again in each of their phases. */
async function replayed(
  house: House,
  target: Target,
  { undisturbed, exact }: { undisturbed: Uint8Array; exact: boolean[] },
): Promise<Replays> {
  const replays = new Replays(target);
  await replays.capture(target);
  let phase = "gathering";
  house.onCoordinator = (said) => {
    if (said.kind === "phase") ({ phase } = said);
  };
  const stop = new AbortController();
  const going = replays.run(() => phase, stop.signal);
  for (let at = 0; at < MOST_ROUNDS && (at === 0 || replays.missing(PHASES).length > 0); at++)
    exact.push(equalBytes(await round(house, `replayed-${at}`), undisturbed));
  stop.abort();
  await going;
  return replays;
}

/** The adapter that an honest round ends with. */
async function round(house: House, name: string): Promise<Uint8Array> {
  const run = await house.begin(noopRun({ name, eligibility: HONEST }));
  const { state, reason } = await house.over(run);
  if (state !== "finished") throw new Error(`${name}: ${reason}`);
  return (await house.newest(run)).adapter;
}

/** A device that turned, with its own key and session; and something large to ask for. */
async function targetOf(house: House): Promise<Target> {
  const folder = await house.enrol("mallory");
  const config = await readConfig(folder);
  const { key } = await readIdentity(folder, config);
  const large = new Uint8Array(LARGE_BYTES);
  await house.asOwner((admin) => putArtifact(admin, large));
  const port = Number(config.address.split(":").at(-1));
  const raw = new Raw(port, config.tls);
  const { session, nowMs } = await raw.greet();
  raw.close();
  const offsetMs = nowMs - Date.now();
  const signer = { name: "mallory", key, session, nowMs: () => Date.now() + offsetMs };
  return { port, tls: config.tls, signer, large: sha256(large) };
}

/** The coordinator's process, by what it was started with. */
function pidOf(folder: string): number {
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const line = readFileSync(`/proc/${name}/cmdline`, "utf8");
      if (line.includes("coordinator.ts") && line.includes(folder)) return Number(name);
    } catch {
      // It ended while we looked.
    }
  }
  throw new Error("the coordinator's process was not found");
}

function held(pid: number): { residentBytes: number; files: number } {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]);
  return { residentBytes: pages * 4096, files: readdirSync(`/proc/${pid}/fd`).length };
}

function sum(values: readonly number[]): number {
  return values.reduce((all, one) => all + one, 0);
}
