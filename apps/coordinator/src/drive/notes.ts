import type { Note } from "@tutti/audit/entry";
import type { RunHeader } from "@tutti/wire/journal";
import type { StoredRelease } from "../store/store.ts";

/** What the audit log says of a round that was closed: its release, or why there is none. */
export function noteOfClose(
  run: string,
  header: RunHeader,
  {
    release,
    by = "coordinator",
  }: { release?: Pick<StoredRelease, "version" | "digest"> | undefined; by?: string | undefined } = {},
): Note {
  const { state, round, attempt, reason, history } = header;
  const note = { actor: by, subject: run };
  const record = history.at(-1);
  if (release && record) {
    const { survivors: devices, secure, transcript, rho } = record;
    const detail = { run, round: record.round, version: release.version, devices, secure, transcript, rho };
    return { actor: "coordinator", what: "release.published", subject: release.digest, detail };
  }
  if (state === "running") return { ...note, what: "round.failed", detail: { round, attempt, reason } };
  return { ...note, what: `run.${state}`, detail: { round, ...(reason && { reason }) } };
}
