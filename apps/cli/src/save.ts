import { lstat, readdir, readFile } from "node:fs/promises";
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
import { roundFiles, type SavedRound } from "./save-round.ts";
import { statusValue } from "./status.ts";
import { isLeft, writeAll } from "./write.ts";

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
 * what a third party needs to check its round. All of it, or nothing where the disk says no. Killed on
 * the way there is no manifest; saving again makes it whole.
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
  const files = new Map<string, Uint8Array | string>([
    // First, since it says whose folder this is, should the rest be cut short.
    [saved.record, `${JSON.stringify({ plan, release, ...statusValue(status) }, null, 2)}\n`],
    [join(saved.adapter, "adapter_config.json"), peft.config],
    [join(saved.adapter, "adapter_model.safetensors"), peft.weights],
    [saved.signed, weights],
    [saved.merged, merge(base, adapter, tensors)],
    [saved.manifest, envelopeJson(envelope)],
  ]);
  const last = status.history.at(-1);
  const transcripts = [release.transcript, last?.release === "" ? last.transcript : null];
  const rounds: SavedRound[] = [];
  for (const transcript of transcripts) {
    if (!transcript) continue;
    const round = await roundFiles(admin, { transcript, folder, authority });
    rounds.push(round.saved);
    // Both rounds may name a file: the same one, by its hash.
    for (const [path, bytes] of round.files) files.set(path, bytes);
  }
  await writeAll(files, { force: true, seal: saved.manifest });
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
  let text = "";
  try {
    text = await readFile(join(folder, RECORD), "utf8");
    const { run } = JSON.parse(text);
    return typeof run === "string" ? run : `a ${RECORD} of no run`;
  } catch (cause) {
    if (cause instanceof TypeError) return `a ${RECORD} of no run`;
    if (cause instanceof SyntaxError) return await cutShort(folder, text);
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") return ioSaid(cause);
  }
  return await unnamed(folder);
}

/** A full disk left earlier versions with the beginning of a record, and an empty folder beside it. */
async function cutShort(folder: string, text: string): Promise<string | null> {
  const run = /"run": "([0-9a-f]{64})"/.exec(text)?.[1];
  if (run !== undefined) return run;
  const ours = text === "" || text.startsWith('{\n  "plan": {');
  return ours ? await unnamed(folder) : `a ${RECORD} of no run`;
}

async function unnamed(folder: string): Promise<string | null> {
  for (const name of NAMES) {
    if (name === "adapter" && (await readdir(join(folder, name)).catch(() => null))?.every(isLeft)) continue;
    if (await lstat(join(folder, name)).catch(() => null)) return `a ${name} of no run`;
  }
  return null;
}
