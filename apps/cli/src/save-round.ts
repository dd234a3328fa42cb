import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { hex } from "@tutti/foundation/bytes";
import { type Verified, verifyRound } from "@tutti/round/verify";
import { Task_Kind } from "@tutti/wire/round";
import { type AdminLink, fetchArtifact } from "./owner.ts";

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
};

/** Writes a round's transcript as `round-<n>.transcript` and what it names beside it, all by hash. */
export async function saveRound(
  admin: AdminLink,
  { transcript, folder, authority }: { transcript: string; folder: string; authority: Uint8Array },
): Promise<SavedRound> {
  const file = await fetchArtifact(admin, transcript);
  const nowS = Math.floor(Date.now() / 1000);
  const verified = verifyRound({ file, authority, nowS, verify: nativeVerify() });
  const { round } = verified.task;
  const save = async (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    await writeFile(path, bytes);
    return path;
  };
  const fetched = async (name: string, sha256: string) => save(name, await fetchArtifact(admin, sha256));
  const sums: string[] = [];
  for (const [at, sum] of sumsOf(verified).entries())
    sums.push(await fetched(`round-${round}${at === 0 ? "" : `-${at + 1}`}.sum`, sum));
  const { parent, state, previous } = startOf(verified);
  return {
    transcript: await save(`round-${round}.transcript`, file),
    sums,
    ...(parent && { parent: await fetched(`round-${round}.parent.safetensors`, parent) }),
    ...(state && { state: await fetched(`round-${round}.state`, state) }),
    ...(previous && { previous: await fetched(`round-${round - 1}.transcript`, previous) }),
  };
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
