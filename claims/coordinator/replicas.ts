import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Claim } from "../claim.ts";
import { FAULTS, isRefusal, type Met, struck, undisturbedAdapter } from "../support/replicas/faults.ts";
import { Replicas } from "../support/replicas/house.ts";
import { testimony, witnessed } from "../support/replicas/witness.ts";

const SITES = ["site-a", "site-b", "site-c", "site-d"];
const ROWS = { train: 64, heldOut: 32 };
const TIMES = 3;
const TAKEOVER_MS = 5_000;

export const claim: Claim = {
  name: "coordinator/replicas",
  target:
    "three coordinators on one PostgreSQL: a leader that is killed, stopped and woken, or cut from the " +
    "database is followed within 5 s, one that is killed sooner than the others; its later writes are " +
    "refused by epoch, no epoch has two writers, and the round in progress ends with the exact sum",
  async run(report) {
    const folder = await mkdtemp(join(tmpdir(), "tutti-claim-"));
    const house = await Replicas.open(folder, new Map(SITES.map((site) => [site, ROWS])));
    try {
      await witnessed(house.cluster, house.database);
      report(`three coordinators, cut off by ${house.wires.kind}`);
      const undisturbed = await undisturbedAdapter(house);
      const met: Met[] = [];
      for (let time = 0; time < TIMES; time++) {
        for (const kind of FAULTS) {
          const one = await struck(house, { kind, time, undisturbed });
          report(JSON.stringify(one));
          met.push(one);
        }
      }
      const seen = await testimony(house.cluster, house.database);
      const figures = {
        faults: met.length,
        cutBy: house.wires.kind,
        takeoverMs: Object.fromEntries(FAULTS.map((kind) => [kind, spread(met, kind)])),
        sameAttempt: met.filter(({ finished, attempts }) => finished && attempts === 1).length,
        bitEqual: met.filter(({ same }) => same).length,
        countedOnce: met.filter(({ once }) => once).length,
        refusedByEpoch: met.filter((one, at) => one.refused !== null && isRefusal(one.refused, at + 2))
          .length,
        stoodDownFirst: met.filter(({ stoodDownFirst }) => stoodDownFirst).length,
        ...seen,
      };
      const holds =
        undisturbed.length > 0 &&
        met.every((one, at) => isSurvived(one, at + 2)) &&
        ["stopped", "cut"].every((kind) => spread(met, "killed").median < spread(met, kind).median) &&
        seen.shared === 0 &&
        seen.late === 0 &&
        seen.epochs === met.length + 1;
      return { figures, holds };
    } finally {
      await house.close();
      await rm(folder, { recursive: true, force: true });
    }
  },
};

/** `epoch` is the one after the fault: each fault ends an epoch, and nothing else does. */
function isSurvived(met: Met, epoch: number): boolean {
  const { takeoverMs, nextEpoch, finished, attempts, once, same, refused, stoodDownFirst } = met;
  const whole = finished && attempts === 1 && once && same;
  const fenced = met.kind === "killed" || isRefusal(refused, epoch);
  return takeoverMs <= TAKEOVER_MS && nextEpoch && whole && fenced && stoodDownFirst !== false;
}

function spread(met: readonly Met[], kind: string): { median: number; worst: number } {
  const times = met.filter((one) => one.kind === kind).map(({ takeoverMs }) => takeoverMs);
  times.sort((a, b) => a - b);
  return { median: times[times.length >> 1] ?? 0, worst: times.at(-1) ?? 0 };
}
