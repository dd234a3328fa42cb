import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { envelopeJson } from "@tutti/release/dsse";
import { openRelease } from "@tutti/release/manifest";
import { Command } from "commander";
import { withContext } from "../action.ts";
import { asOwner, fetchArtifact, findRun } from "../owner.ts";

type Options = { federation: string; out?: string };

export function releasesCommand(): Command {
  return new Command("releases")
    .description("List a run's signed releases; --out saves the newest one's manifest and adapter.")
    .argument("[run]", "name of the run, or the beginning of its id; without it, the newest")
    .option("--federation <folder>", "federation folder with the owner key", "federation")
    .option("--out <folder>", "save manifest.json and adapter.safetensors of the newest release here")
    .action((said: string | undefined, options: Options, command: Command) =>
      withContext(command, ({ output }) =>
        asOwner(options.federation, async (admin, { authority }) => {
          const run = await findRun(admin, said);
          const { manifests } = await admin.releases({ $typeName: "tutti.v1.RunRequest", run });
          const nowS = Math.floor(Date.now() / 1000);
          const releases = manifests.map((envelope) => openRelease(envelope, { authority, nowS }));
          for (const { release } of releases) {
            const size = release.cohorts.length > 0 ? `cohort ${release.cohorts.join("+")}` : "initial";
            output.say(
              `version ${release.version}  ${size}  adapter ${release.adapter.sha256.slice(0, 12)}  ${release.createdAt}`,
            );
          }
          const newest = releases.at(-1);
          const envelope = manifests.at(-1);
          if (options.out && newest && envelope) {
            await mkdir(options.out, { recursive: true });
            await writeFile(join(options.out, "manifest.json"), envelopeJson(envelope));
            await writeFile(
              join(options.out, "adapter.safetensors"),
              await fetchArtifact(admin, newest.release.adapter.sha256),
            );
          }
          output.result(
            { run, releases: releases.map(({ release, digest }) => ({ ...release, digest })) },
            `${releases.length} releases`,
          );
        }),
      ),
    );
}
