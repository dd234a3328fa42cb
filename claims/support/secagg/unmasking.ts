import { existsSync, readdirSync, readFileSync } from "node:fs";
import { nativeAgree } from "@tutti/coordinator/native";
import { LiftPool } from "@tutti/coordinator/unmask/pool";
import { addKeystreams } from "@tutti/kernels/chacha20";
import { batchOf, type Lift, liftMasks, streamsOf } from "@tutti/secagg/server/lift";
import { type ServerSession, unmask } from "@tutti/secagg/server/session";

export type Opened = {
  readonly session: ServerSession;
  readonly masked: Uint32Array;
  readonly plain: Uint32Array;
};

/** What unmasking took, turn by turn, in seconds of processor time. */
export type Cost = {
  readonly streams: number;
  readonly exact: boolean;
  /** The mask streams alone, by the kernel's speed during that very turn. */
  readonly floorS: number[];
  readonly takenS: number[];
  /** Of that: until every secret was there. */
  readonly secretsS: number[];
};

/** Between so many walks over the vector the kernel runs alone for one. */
const WALKS = 4;

/**
 * Unmasks on this thread. The kernel's own speed is sampled in between, so that what else the machine does
 * slows both down alike.
 */
export async function costOf({ session, masked, plain }: Opened, turns: number): Promise<Cost> {
  const cost = { streams: 0, exact: true, floorS: [], takenS: [], secretsS: [] } as Writable<Cost>;
  for (let turn = 0; turn < turns; turn++) {
    const kernel = new KernelSamples(masked.length);
    const began = processorS();
    const lift = async (sum: Uint32Array, lifts: readonly Lift[]) => {
      cost.secretsS.push(processorS() - began);
      cost.streams = lifts.reduce((total, one) => total + streamsOf(one), 0);
      kernel.sample();
      await liftMasks(sum, lifts, { agree: nativeAgree, pause: async () => kernel.walked() });
    };
    const got = await unmask(session, masked, { agree: nativeAgree, lift });
    cost.takenS.push(processorS() - began - kernel.spentS);
    cost.floorS.push(cost.streams * kernel.perStreamS);
    cost.exact &&= same(got, plain);
  }
  return cost;
}

/**
 * One unmasking on threads that have begun before, in seconds: by the clock, and by processor time on its
 * longest path, which is what it would take where no other work kept threads waiting. That is this thread's
 * and the busiest other's; null where the system does not tell.
 */
export type Race = { readonly clockS: number; readonly pathS: number | null; readonly exact: boolean };

export async function raceOn(threads: number, { session, masked, plain }: Opened): Promise<Race> {
  const pool = new LiftPool({ threads, inlineWords: 0 });
  try {
    await pool.lift(new Uint32Array(1), [{ kind: "self", key: new Uint8Array(32) }]);
    const [beganMs, before] = [performance.now(), threadsS()];
    const got = await unmask(session, masked, { agree: nativeAgree, lift: pool.lift });
    const [clockS, after] = [(performance.now() - beganMs) / 1000, threadsS()];
    return { clockS, pathS: longest(before, after), exact: same(got, plain) };
  } finally {
    await pool.close();
  }
}

/** Seconds of processor time of each of this process's threads, by id (proc(5)). */
function threadsS(): Map<number, number> {
  const all = existsSync("/proc/self/task") ? readdirSync("/proc/self/task") : [];
  const seconds = all.map((id): [number, number] => {
    const stat = readFileSync(`/proc/self/task/${id}/stat`, "utf8");
    // Past the name, which may hold anything: utime and stime, in hundredths.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return [Number(id), (Number(fields[11]) + Number(fields[12])) / 100];
  });
  return new Map(seconds);
}

function longest(before: Map<number, number>, after: Map<number, number>): number | null {
  const took = (id: number) => (after.get(id) ?? 0) - (before.get(id) ?? 0);
  const others = [...after.keys()].filter((id) => id !== process.pid);
  return others.length === 0 ? null : took(process.pid) + Math.max(...others.map(took));
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

class KernelSamples {
  spentS = 0;
  readonly #vector: Uint32Array;
  readonly #masks: { key: Uint8Array; sign: 1 }[];
  #walks = 0;
  #samples = 0;

  constructor(length: number) {
    this.#vector = new Uint32Array(length);
    this.#masks = Array.from({ length: batchOf(length) }, () => ({ key: new Uint8Array(32), sign: 1 }));
  }

  get perStreamS(): number {
    return this.spentS / (this.#samples * this.#masks.length);
  }

  walked(): void {
    if (++this.#walks % WALKS === 0) this.sample();
  }

  sample(): void {
    const began = processorS();
    addKeystreams(this.#vector, this.#masks);
    this.spentS += processorS() - began;
    this.#samples++;
  }
}

function processorS(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function same(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((word, at) => word === b[at]);
}
