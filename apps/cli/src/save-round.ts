import { join } from "node:path";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { hex } from "@tutti/foundation/bytes";
import { asFault } from "@tutti/foundation/fault";
import { type Verified, verifyRound } from "@tutti/round/verify";
import { Task_Kind } from "@tutti/wire/round";
import { type AdminLink, fetchArtifact } from "./owner.ts";
import { type Files, writeAll } from "./write.ts";

/** Files of one round, for `tutti verify-round`; those that such a round has. */
export type SavedRound = {
  readonly transcript: string;
  /** One per cohort. */
  readonly sums: readonly string[];
  /** The adapter that the round started from. */
  readonly parent?: string;
  /** The strategy's state before the step. */
  readonly state?: string;
  /** The transcript of the round before. */
  readonly previous?: string;
  /** Names of those that its coordinator keeps no more. */
  readonly gone: readonly string[];
};

type About = { readonly transcript: string; readonly folder: string; readonly authority: Uint8Array };

/** What `roundFiles` says, written: all of it or nothing. */
export async function saveRound(admin: AdminLink, about: About): Promise<SavedRound> {
  const { saved, files } = await roundFiles(admin, about);
  await writeAll(files, { force: true });
  return saved;
}

/**
 * To be written: a round's transcript as `round-<n>.transcript` and what it names beside it, all by hash;
 * without what its coordinator keeps no more. @throws Fault("not-found") where that is the transcript itself.
 */
export async function roundFiles(
  admin: AdminLink,
  { transcript, folder, authority }: About,
): Promise<{ readonly saved: SavedRound; readonly files: Files }> {
  const file = await fetchArtifact(admin, transcript);
  const nowS = Math.floor(Date.now() / 1000);
  const verified = verifyRound({ transcript: file, authority, nowS, verify: nativeVerify() });
  const { round } = verified.task;
  const files = new Map<string, Uint8Array>();
  const save = (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    files.set(path, bytes);
    return path;
  };
  const gone: string[] = [];
  const fetched = async (name: string, sha256: string | undefined) => {
    if (!sha256) return null;
    const bytes = await fetchKept(admin, sha256);
    if (bytes === null) gone.push(name);
    return bytes && save(name, bytes);
  };
  const sums: (string | null)[] = [];
  for (const [at, sum] of sumsOf(verified).entries())
    sums.push(await fetched(`round-${round}${at === 0 ? "" : `-${at + 1}`}.sum`, sum));
  const from = startOf(verified);
  const parent = await fetched(`round-${round}.parent.safetensors`, from.parent);
  const state = await fetched(`round-${round}.state`, from.state);
  const previous = await fetched(`round-${round - 1}.transcript`, from.previous);
  const saved = {
    transcript: save(`round-${round}.transcript`, file),
    sums: sums.filter((path) => path !== null),
    ...(parent && { parent }),
    ...(state && { state }),
    ...(previous && { previous }),
    gone,
  };
  return { saved, files };
}

/** Null for a file that its coordinator removed, as `retention` of its config says. */
async function fetchKept(admin: AdminLink, sha256: string): Promise<Uint8Array | null> {
  try {
    return await fetchArtifact(admin, sha256);
  } catch (error) {
    if (asFault(error).code === "not-found") return null;
    throw error;
  }
}

function sumsOf({ transcript }: Verified): string[] {
  return transcript.cohorts.map(({ sumHash }) => hex(sumHash));
}

/** Hashes of what the step was taken from; a round that only evaluates took none. */
function startOf({ transcript, parent, task }: Verified) {
  if (task.kind === Task_Kind.EVALUATE) return {};
  const { release } = parent;
  return {
    parent: release.adapter.sha256,
    state: hex(transcript.stateBefore),
    previous: release.transcript ?? "",
  };
}
