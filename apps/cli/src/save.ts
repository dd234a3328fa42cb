import { lstat, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { toPeft } from "@tutti/adapter/formats/peft";
import { readTensors } from "@tutti/adapter/formats/safetensors";
import { merge } from "@tutti/adapter/merge";
import { resolve } from "@tutti/adapter/resolve";
import { Fault } from "@tutti/foundation/fault";
import { read } from "@tutti/graph/read";
import { parsePlan } from "@tutti/plan/plan";
import { envelopeJson } from "@tutti/release/envelope-json";
import { checkArtifact, openRelease, type Release } from "@tutti/release/manifest";
import { ioSaid } from "./files.ts";
import { type AdminLink, fetchArtifact, releasesOf, withHistory } from "./owner.ts";
import { type SavedRound, saveRound } from "./save-round.ts";
import { statusValue } from "./status.ts";

/** Where the parts of a saved release are. */
export type Saved = {
  readonly release: Release;
  readonly manifest: string;
  /** A PEFT folder. */
  readonly adapter: string;
  /** The adapter's file as the manifest names it by hash; `tutti verify --adapter` takes this one. */
  readonly signed: string;
  /** The base with the adapter merged in. */
  readonly merged: string;
  /** The run as it went: plan, rounds, releases. */
  readonly record: string;
  /** What `tutti verify-round` takes: of the round that made the release, and of its evaluation. */
  readonly rounds: readonly SavedRound[];
};

/**
 * Writes a run's newest release: signed manifest, adapter in PEFT format, merged ONNX model, run record, and
 * what a third party needs to check its round.
 * @throws Fault("conflict") where the folder holds what is not of this run; nothing is asked or written then.
 */
export async function saveRelease(
  admin: AdminLink,
  { run, folder, authority }: { run: string; folder: string; authority: Uint8Array },
): Promise<Saved> {
  await refuseOther(folder, run);
  const { manifests, plan: planEnvelope } = await releasesOf(admin, run);
  const envelope = manifests.at(-1);
  if (!envelope || !planEnvelope) throw new Fault("not-found", `a release of run ${run.slice(0, 12)}`);
  const { release } = openRelease(envelope, { authority, nowS: Math.floor(Date.now() / 1000) });
  const plan = parsePlan(planEnvelope.payload);
  const base = await fetchArtifact(admin, release.base.sha256);
  const weights = await fetchArtifact(admin, release.adapter.sha256);
  checkArtifact(weights, release.adapter);
  const tensors = readTensors(plan.tensors, weights);
  const adapter = resolve(read(base), plan.adapter);
  const peft = toPeft(adapter, tensors);
  const status = await withHistory(admin, await admin.status({ $typeName: "tutti.v1.RunRequest", run }));
  const saved = {
    release,
    manifest: join(folder, "manifest.json"),
    adapter: join(folder, "adapter"),
    signed: join(folder, "adapter.safetensors"),
    merged: join(folder, "merged.onnx"),
    record: join(folder, RECORD),
  };
  await mkdir(saved.adapter, { recursive: true });
  // First, since it says whose folder this is, should the rest be cut short.
  await writeFile(saved.record, `${JSON.stringify({ plan, release, ...statusValue(status) }, null, 2)}\n`);
  await writeFile(join(saved.adapter, "adapter_config.json"), peft.config);
  await writeFile(join(saved.adapter, "adapter_model.safetensors"), peft.weights);
  await writeFile(saved.signed, weights);
  await writeFile(saved.merged, merge(base, adapter, tensors));
  await writeFile(saved.manifest, envelopeJson(envelope));
  const last = status.history.at(-1);
  const transcripts = [release.transcript, last?.release === "" ? last.transcript : null];
  const rounds: SavedRound[] = [];
  for (const transcript of transcripts)
    if (transcript) rounds.push(await saveRound(admin, { transcript, folder, authority }));
  return { ...saved, rounds };
}

const RECORD = "run.json";
/** The others whose names do not tell what they are of. */
const NAMES = ["manifest.json", "adapter", "adapter.safetensors", "merged.onnx"];

/** Files of two runs side by side would look like one release. */
async function refuseOther(folder: string, run: string): Promise<void> {
  const held = await heldIn(folder);
  if (held === null || held === run) return;
  throw new Fault("conflict", `${folder}/`, {
    expected: `an empty folder, or what was saved of run ${run.slice(0, 12)}`,
    got: /^[0-9a-f]{64}$/.test(held) ? `a release of run ${held.slice(0, 12)}` : held,
    todo: "Name another folder with --out",
  });
}

/** Id of the run whose release is there; else what stands in its place, null for nothing. */
async function heldIn(folder: string): Promise<string | null> {
  try {
    const { run } = JSON.parse(await readFile(join(folder, RECORD), "utf8"));
    return typeof run === "string" ? run : `a ${RECORD} of no run`;
  } catch (cause) {
    if (cause instanceof SyntaxError || cause instanceof TypeError) return `a ${RECORD} of no run`;
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") return ioSaid(cause);
  }
  for (const name of NAMES)
    if (await lstat(join(folder, name)).catch(() => null)) return `a ${name} of no run`;
  return null;
}
