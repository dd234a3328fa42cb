import { readdirSync, readFileSync } from "node:fs";
import { readConfig, readIdentity } from "@tutti/client-sdk/node/folder";
import { equalBytes } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import { putArtifact } from "tutti/owner";
import type { Claim } from "../claim.ts";
import { ATTACKS, type Target } from "../support/chaos/attacks.ts";
import { Raw } from "../support/chaos/raw.ts";
import { type House, noopRun, withHouse } from "../support/coordinator/house.ts";

const LARGE_BYTES = 64 << 20;
const MOST_MORE_BYTES = 150e6;

export const claim: Claim = {
  name: "coordinator/hostile",
  target:
    `${ATTACKS.length} attacks are refused or cut as they should be; honest rounds go on meanwhile, each ` +
    "with the exact sum; files that are open come back to what they were",
  async run(report) {
    return await withHouse({ devices: 3, processes: 1, inMemory: true }, async (house) => {
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
        table,
      };
      const calm = most - before.residentBytes <= MOST_MORE_BYTES && after.files <= before.files + 3;
      return { figures, holds: good === ATTACKS.length && exact.length > 0 && exact.every(Boolean) && calm };
    });
  },
};

/** The adapter that an honest round ends with. */
async function round(house: House, name: string): Promise<Uint8Array> {
  const run = await house.begin(noopRun({ name }));
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
