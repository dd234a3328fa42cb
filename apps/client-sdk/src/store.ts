import { concat } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/** One release as it lies on the device: the signed manifest (DSSE JSON), the adapter, the merged model. */
export type HeldRelease = {
  /** Hex SHA-256 of the manifest's payload. */
  readonly digest: string;
  readonly run: string;
  readonly version: number;
  readonly manifest: string;
  readonly adapter: Uint8Array;
  readonly model: Uint8Array;
};

/** What a device answers with: a release's model, the base model before any, or nothing yet. */
export type Pointer = {
  readonly base: string | null;
  readonly current: string | null;
  readonly previous: string | null;
  /** Releases that the site went back from, newest last: none of them comes in again. */
  readonly rejected: readonly string[];
  /** Which release came in last: no older one of another run does after it. Absent: none is known. */
  readonly latest?: Made;
};

/** Of which run a release is, and when it was made: ms since 1970. */
export type Made = { readonly run: string; readonly madeMs: number };

/** Runs have no other order than time; two releases of one moment have that of their runs' ids. */
export function isOlder(one: Made, other: Made): boolean {
  return one.madeMs < other.madeMs || (one.madeMs === other.madeMs && one.run < other.run);
}

/**
 * What a device keeps. Whatever is killed and when, `pointer` names a whole release: the old one or the new
 * one (docs/reliability.md, promise 4). Secrets of a session are never here.
 */
export type Store = {
  /** A complete artifact by hex SHA-256, or null. */
  artifact(sha256: string): Promise<Uint8Array | null>;
  /** Bytes of an artifact that is being downloaded. */
  partial(sha256: string): Promise<Uint8Array>;
  /**
   * Appends at `offset`, the length so far. @throws Fault("unavailable") when it is another: somebody else
   * wrote, and the download goes on from what is there.
   */
  append(sha256: string, chunk: Uint8Array, offset: number): Promise<void>;
  /** Makes the partial artifact, whose hash the caller has checked, a complete one. */
  complete(sha256: string): Promise<void>;
  /** Forgets the artifact, whole or not. */
  discard(sha256: string): Promise<void>;
  /** Forgets every artifact, whole or not, but these. */
  discardBut(kept: ReadonlySet<string>): Promise<void>;
  /**
   * Small documents by name: a run's plan, a run's newest manifest. @throws Fault("refused") for a name that
   * is no file's (`checkedName`), or more than `MAX_DOCUMENT`.
   */
  document(name: string): Promise<string | null>;
  putDocument(name: string, text: string): Promise<void>;
  /** The names of all of them, the one that was put last first. */
  documents(): Promise<readonly string[]>;
  pointer(): Promise<Pointer>;
  /** A whole release, or null when it is not there or a byte of it changed. */
  release(digest: string): Promise<HeldRelease | null>;
  setBase(sha256: string): Promise<void>;
  /**
   * Writes the release, then points at it; what was current becomes previous, anything older is removed.
   * `made` is what the pointer calls its latest from then on.
   */
  activate(release: HeldRelease, made?: Made): Promise<void>;
  /** Points back at the previous release, or at the base; a rejected current one stays out from then on. */
  rollback(options: Rollback): Promise<void>;
};

export type Rollback = {
  readonly reject: boolean;
  /** Back from this one: where another is current by then, nothing changes. */
  readonly from?: string | null;
};

/** Longest document, in characters; a plan is far below it, the list of peers (peers.ts) is the largest. */
export const MAX_DOCUMENT = 16 << 20;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * A name as it may become a file's. A coordinator chooses some of its letters (a run that nobody has checked
 * yet), so no separator and no leading dot gets through. @throws Fault("refused").
 */
export function checkedName(name: string): string {
  const expected = "1..128 of A-Z a-z 0-9 . _ - with no dot first";
  const got = JSON.stringify(name.slice(0, 80));
  demand(NAME.test(name), () => new Fault("refused", "name of what is stored", { expected, got }));
  return name;
}

export function checkedText(name: string, text: string): string {
  const detail = { expected: `at most ${MAX_DOCUMENT} characters`, got: `${text.length}` };
  demand(text.length <= MAX_DOCUMENT, () => new Fault("refused", checkedName(name), detail));
  return text;
}

export function checkOffset(sha256: string, offset: number, length: number): void {
  const detail = { expected: `to go on at byte ${length}`, got: `byte ${offset}` };
  demand(offset === length, () => new Fault("unavailable", `artifact ${sha256}, appending`, detail));
}

export const EMPTY: Pointer = { base: null, current: null, previous: null, rejected: [] };

/** Lineage lets no older release of a run come back, so only a run's newest ones need to be remembered. */
const MAX_REJECTED = 100;

/** The pointer after a release is activated; activating the current one again changes nothing. */
export function activated(pointer: Pointer, digest: string, made?: Made): Pointer {
  const next = made ? { ...pointer, latest: made } : pointer;
  return pointer.current === digest ? next : { ...next, current: digest, previous: pointer.current };
}

export function rolledBack(pointer: Pointer, { reject, from }: Rollback): Pointer {
  const { current, previous, latest } = pointer;
  if (from !== undefined && from !== current) return pointer;
  const added = reject && current !== null ? [current] : [];
  const rejected = [...pointer.rejected, ...added].slice(-MAX_REJECTED);
  const { base } = pointer;
  // What is damaged may come again, whatever came after it.
  return { base, current: previous, previous: null, rejected, ...(reject && latest && { latest }) };
}

/** A store for tests, simulation and pages that keep nothing. */
export function memoryStore(): Store {
  const artifacts = new Map<string, Uint8Array>();
  const partials = new Map<string, Uint8Array>();
  const documents = new Map<string, string>();
  const releases = new Map<string, HeldRelease>();
  let pointer = EMPTY;
  const partial = (sha256: string) => partials.get(sha256) ?? new Uint8Array(0);
  return {
    artifact: async (sha256) => artifacts.get(sha256) ?? null,
    partial: async (sha256) => partial(sha256),
    append: async (sha256, chunk, offset) => {
      checkOffset(sha256, offset, partial(sha256).length);
      partials.set(sha256, concat(partial(sha256), chunk));
    },
    complete: async (sha256) => {
      artifacts.set(sha256, partial(sha256));
      partials.delete(sha256);
    },
    discard: async (sha256) => {
      partials.delete(sha256);
      artifacts.delete(sha256);
    },
    discardBut: async (kept) => {
      for (const map of [artifacts, partials])
        for (const sha256 of [...map.keys()]) if (!kept.has(sha256)) map.delete(sha256);
    },
    document: async (name) => documents.get(checkedName(name)) ?? null,
    putDocument: async (name, text) => {
      const checked = checkedText(name, text);
      documents.delete(name);
      documents.set(checkedName(name), checked);
    },
    documents: async () => [...documents.keys()].reverse(),
    pointer: async () => pointer,
    release: async (digest) => releases.get(digest) ?? null,
    setBase: async (base) => {
      pointer = { ...pointer, base };
    },
    activate: async (release, made) => {
      releases.set(release.digest, release);
      pointer = activated(pointer, release.digest, made);
    },
    rollback: async (options) => {
      pointer = rolledBack(pointer, options);
    },
  };
}
