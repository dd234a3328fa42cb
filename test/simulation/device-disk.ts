import type { Spending } from "@tutti/client-sdk/private";
import {
  activated,
  checkedName,
  checkedText,
  checkOffset,
  EMPTY,
  type HeldRelease,
  type Pointer,
  rolledBack,
  type Store,
} from "@tutti/client-sdk/store";
import { concat } from "@tutti/foundation/bytes";
import type { Ledger } from "@tutti/secagg/device/member";
import type { Disk } from "./disk.ts";

/** What a device's disk durably holds; it outlives the device's processes. */
export class DeviceDisk {
  readonly artifacts = new Map<string, Uint8Array>();
  readonly partials = new Map<string, Uint8Array>();
  readonly documents = new Map<string, string>();
  readonly releases = new Map<string, HeldRelease>();
  readonly rounds = new Set<string>();
  readonly spent: Parameters<Spending["add"]>[0][] = [];
  pointer: Pointer = EMPTY;
  /** Told of each change of what the device answers with. */
  onPointer: () => void = () => {};

  point(pointer: Pointer): void {
    this.pointer = pointer;
    this.onPointer();
  }
}

/** One process's way to it. Activation is two writes, as in node/store.ts: the release, then the pointer. */
export function openStore(held: DeviceDisk, disk: Disk): Store {
  const partial = (sha256: string) => held.partials.get(sha256) ?? new Uint8Array(0);
  return {
    artifact: (sha256) => disk.read("reading an artifact", () => held.artifacts.get(sha256) ?? null),
    partial: (sha256) => disk.read("reading an artifact", () => partial(sha256)),
    append: (sha256, chunk, offset) =>
      disk.write("writing an artifact", () => {
        checkOffset(sha256, offset, partial(sha256).length);
        held.partials.set(sha256, concat(partial(sha256), chunk));
      }),
    complete: (sha256) =>
      disk.write("writing an artifact", () => {
        held.artifacts.set(sha256, partial(sha256));
        held.partials.delete(sha256);
      }),
    discard: (sha256) =>
      disk.write("removing an artifact", () => {
        held.partials.delete(sha256);
        held.artifacts.delete(sha256);
      }),
    discardBut: (kept) =>
      disk.write("removing artifacts", () => {
        for (const map of [held.partials, held.artifacts])
          for (const sha256 of [...map.keys()]) if (!kept.has(sha256)) map.delete(sha256);
      }),
    document: (name) => disk.read("reading a document", () => held.documents.get(checkedName(name)) ?? null),
    putDocument: (name, text) =>
      disk.write("writing a document", () => {
        const checked = checkedText(name, text);
        held.documents.delete(name);
        held.documents.set(checkedName(name), checked);
      }),
    documents: () => disk.read("reading the documents' names", () => [...held.documents.keys()].reverse()),
    pointer: () => disk.read("reading the pointer", () => held.pointer),
    release: (digest) => disk.read("reading a release", () => held.releases.get(digest) ?? null),
    setBase: (base) => disk.write("writing the pointer", () => held.point({ ...held.pointer, base })),
    activate: async (release, made) => {
      await disk.write("writing a release", () => void held.releases.set(release.digest, release));
      await disk.write("writing the pointer", () =>
        held.point(activated(held.pointer, release.digest, made)),
      );
    },
    rollback: (options) =>
      disk.write("writing the pointer", () => held.point(rolledBack(held.pointer, options))),
  };
}

/** Rounds this device helped to open: on disk before `add` returns. */
export function openRounds({ rounds }: DeviceDisk, disk: Disk): Ledger {
  const key = (run: string, round: number) => `${round} ${run}`;
  return {
    has: (run, round) => rounds.has(key(run, round)),
    add: (run, round) => disk.writeNow("writing down a round", () => void rounds.add(key(run, round))),
  };
}

export function openSpending({ spent }: DeviceDisk, disk: Disk): Spending {
  return {
    entries: () => spent,
    add: (entry) => disk.writeNow("writing down a price", () => void spent.push(entry)),
  };
}
