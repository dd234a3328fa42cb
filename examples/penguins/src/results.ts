import { readFile } from "node:fs/promises";
import { trainAlone } from "@tutti/client-sdk/alone";
import type { Engine } from "@tutti/graph/ir";
import { layoutOf } from "@tutti/update/layout";
import type { PreparedRun } from "tutti/prepare";
import { accuracyOf } from "./accuracy.ts";
import { type Bird, type Flock, ISLANDS, SPECIES } from "./birds.ts";
import { examplesOf } from "./examples.ts";
import type { Federated } from "./federation.ts";

type Accuracy = { readonly accuracy: number };

/** Every model on the same test birds; what `npm start -- --json` prints. */
export type Results = Readonly<Record<string, unknown>> & {
  readonly base: Accuracy;
  readonly local: Readonly<Record<string, Accuracy>>;
  readonly federated: Accuracy;
  readonly central: Accuracy;
};

export async function measure(options: {
  prepared: PreparedRun;
  flock: Flock;
  federated: Federated;
  engine: Engine;
  startedMs: number;
}): Promise<Results> {
  const { prepared, flock, engine, startedMs } = options;
  const { status, saved } = options.federated;
  const score = async (model: Uint8Array): Promise<Accuracy> => ({
    accuracy: await accuracyOf(model, flock.test),
  });
  const alone = async (birds: readonly Bird[]) =>
    score(await trainAlone(prepared, examplesOf(birds), { engine }));
  const local: Record<string, Accuracy> = {};
  for (const island of ISLANDS) local[island] = await alone(flock.sites[island]);
  return {
    base: await score(prepared.base),
    local,
    federated: await score(new Uint8Array(await readFile(saved.merged))),
    central: await alone(ISLANDS.flatMap((island) => flock.sites[island])),
    testBirds: flock.test.length,
    rounds: prepared.plan.rounds,
    secureAggregation: status.history.every((record) => record.secure),
    uploadBytesPerDevicePerRound: Math.max(...status.history.map((record) => record.uploadBytes)),
    parametersTrained: layoutOf(prepared.plan.tensors).length,
    release: { manifest: saved.manifest, adapter: saved.adapter, version: saved.release.version },
    merged: saved.merged,
    record: saved.record,
    seconds: Math.round((performance.now() - startedMs) / 100) / 10,
  };
}

/** The results for people. */
export function tableOf(results: Results, flock: Flock): string {
  const seen = (birds: readonly Bird[]) =>
    SPECIES.filter((one) => birds.some(({ species }) => species === one));
  const rows: [string, Accuracy, string][] = [
    ["base model", results.base, `${flock.open.length} public birds`],
    ...ISLANDS.map((island): [string, Accuracy, string] => [
      `${island} alone`,
      results.local[island] ?? { accuracy: Number.NaN },
      `${flock.sites[island].length} birds: ${seen(flock.sites[island]).join(", ")}`,
    ]),
    ["federated", results.federated, "no bird left its island"],
    ["central", results.central, "all birds in one place: the ceiling"],
  ];
  const lines = rows.map(
    ([name, { accuracy }, note]) => `  ${name.padEnd(18)} ${accuracy.toFixed(3)}   ${note}`,
  );
  const { release, merged, record } = results as unknown as {
    release: { manifest: string; adapter: string };
    merged: string;
    record: string;
  };
  return [
    "",
    `  ${"model".padEnd(18)} accuracy on ${flock.test.length} birds that nobody trained on`,
    ...lines,
    "",
    `  merged model     ${merged}`,
    `  adapter (PEFT)   ${release.adapter}`,
    `  signed manifest  ${release.manifest}`,
    `  run record       ${record}`,
  ].join("\n");
}
