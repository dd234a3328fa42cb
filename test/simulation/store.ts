import type {
  Change,
  Device,
  NewDevice,
  Store,
  StoredRelease,
  StoredRun,
  StoredSum,
} from "@tutti/coordinator/store/store";
import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { Disk } from "./disk.ts";

type Run = StoredRun & {
  readonly journal: Uint8Array[];
  readonly sums: Map<number, StoredSum>;
  readonly releases: StoredRelease[];
};

/**
 * What the coordinator's database durably holds: the slow twin of apps/coordinator/src/store, over maps. It
 * outlives every process; `openModelStore` is one process's way to it.
 */
export class Database {
  readonly devices = new Map<string, NewDevice & { revoked: boolean }>();
  readonly runs = new Map<string, Run>();
  /** Of the newest leader; what another writes is refused. */
  epoch = 0;
  /** Told of each change once it is durable. */
  onCommit: (run: string, change: Change) => void = () => {};

  addDevice(device: NewDevice): void {
    const there = [...this.devices.values()].filter(
      ({ name, serial }) => name === device.name || equalBytes(serial, device.serial),
    );
    const same = there.every(
      ({ name, certificate }) => name === device.name && equalBytes(certificate, device.certificate),
    );
    if (!same) throw new Fault("conflict", `device ${device.name}`);
    if (there.length === 0) this.devices.set(device.name, { ...device, revoked: false });
  }

  device(name: string): Device | undefined {
    return this.devices.get(name);
  }

  revoke(name: string): boolean {
    const device = this.devices.get(name);
    if (device) device.revoked = true;
    return device !== undefined;
  }

  addRun(run: StoredRun): void {
    if (this.runs.has(run.run)) throw new Fault("conflict", `run ${run.run.slice(0, 12)}`);
    this.runs.set(run.run, { ...run, journal: [], sums: new Map(), releases: [] });
  }

  commit(name: string, change: Change): void {
    const run = this.run(name);
    if (!run) throw new Fault("not-found", `run ${name.slice(0, 12)}`);
    const journal = change.clearJournal ? [] : [...run.journal];
    for (const { seq, entry } of change.append ?? []) {
      const held = journal[seq];
      if (held && !equalBytes(held, entry)) throw new Fault("conflict", `journal entry ${seq}`);
      // A gap is found by who reads it, in the real one too.
      journal[seq] = entry;
    }
    const sums = new Map(change.clearJournal ? [] : run.sums);
    for (const sum of change.sums ?? []) sums.set(sum.cohort, sum);
    const releases = withRelease(run.releases, change.release);
    const { header = run.header, state = run.state } = change;
    this.runs.set(name, { ...run, header, state, journal, sums, releases });
    this.onCommit(name, change);
  }

  run(name: string): Run | undefined {
    return this.runs.get(name);
  }

  mustRun(name: string): Run {
    const run = this.runs.get(name);
    if (run) return run;
    throw new Fault("not-found", `run ${name.slice(0, 12)}`);
  }
}

function withRelease(releases: readonly StoredRelease[], release: StoredRelease | undefined) {
  if (!release) return [...releases];
  const held = releases.find(({ version }) => version === release.version);
  if (!held) return [...releases, release].sort((a, b) => a.version - b.version);
  if (held.digest !== release.digest || !equalBytes(held.envelope, release.envelope))
    throw new Fault("conflict", `release ${release.version}`);
  return [...releases];
}

/**
 * One process's store, under the next epoch: every operation takes its time, may fail, and may be the last
 * thing it does. A write checks its epoch in the moment that it becomes durable.
 */
export async function openModelStore(base: Database, disk: Disk): Promise<Store> {
  const epoch = await disk.write("taking the lease", () => ++base.epoch);
  const write = <T>(what: string, apply: () => T) =>
    disk.write(what, () => {
      if (base.epoch !== epoch)
        throw new Fault("unavailable", "lease", { expected: `epoch ${base.epoch}`, got: `${epoch}` });
      return apply();
    });
  const stored = ({ run, name, plan, header, state }: Run): StoredRun => ({ run, name, plan, header, state });
  return {
    epoch,
    addDevice: (device) => write("adding a device", () => base.addDevice(device)),
    device: (name) => disk.read("reading a device", () => base.device(name)),
    devices: () => disk.read("reading devices", () => [...base.devices.values()]),
    revokeDevice: (name) => write("revoking a device", () => base.revoke(name)),
    addRun: (run) => write("adding a run", () => base.addRun(run)),
    run: (run) => disk.read("reading a run", () => mapped(base.run(run), stored)),
    runs: () => disk.read("reading runs", () => [...base.runs.values()].map(stored)),
    journal: (run) =>
      disk.read("reading the journal", () => {
        const { journal = [], sums } = base.run(run) ?? {};
        const gap = [...(journal as (Uint8Array | undefined)[])].indexOf(undefined);
        if (gap >= 0) throw new Fault("storage", "journal", { expected: `entry ${gap}`, got: "none" });
        return { entries: journal, sums: [...(sums?.values() ?? [])].sort((a, b) => a.cohort - b.cohort) };
      }),
    commit: (run, change) => write("committing", () => base.commit(run, change)),
    releases: (run) => disk.read("reading releases", () => base.run(run)?.releases ?? []),
    integrity: async () => true,
    close: async () => {},
  };
}

function mapped<A, B>(value: A | undefined, change: (value: A) => B): B | undefined {
  return value === undefined ? undefined : change(value);
}
