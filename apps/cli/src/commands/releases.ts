import { openRelease } from "@tutti/release/manifest";
import { Command } from "commander";
import { withContext } from "../action.ts";
import { asOwner, releasesOf } from "../owner.ts";
import { findRun, listedRuns } from "../runs.ts";
import { saveRelease } from "../save.ts";

type Options = { federation: string; out?: string };

export function releasesCommand(): Command {
  return new Command("releases")
    .description("List a run's signed releases; --out saves the newest one's manifest and adapter.")
    .argument("[run]", "its name, or the beginning of its id; without it, the newest")
    .option("--federation <folder>", "federation folder with the owner key", "federation")
    .option(
      "--out <folder>",
      "save the newest release here: manifest, PEFT adapter, merged model, run record",
    )
    .action((said: string | undefined, options: Options, command: Command) =>
      withContext(command, ({ output }) =>
        asOwner(options.federation, async (admin, { authority }) => {
          const { run } = findRun(await listedRuns(admin), said);
          const { manifests } = await releasesOf(admin, run);
          const nowS = Math.floor(Date.now() / 1000);
          const releases = manifests.map((envelope) => openRelease(envelope, { authority, nowS }));
          const removed = releases[0]?.release.version ?? 0;
          if (removed > 0) output.say(removedLine(removed));
          for (const { release } of releases) {
            const size = release.cohorts.length > 0 ? `cohort ${release.cohorts.join("+")}` : "initial";
            const adapter = release.adapter.sha256.slice(0, 12);
            output.say(`version ${release.version}  ${size}  adapter ${adapter}  ${release.createdAt}`);
          }
          const saved = options.out
            ? await saveRelease(admin, { run, folder: options.out, authority })
            : undefined;
          for (const { transcript, gone } of saved?.rounds ?? [])
            if (gone.length > 0) output.say(goneWith(transcript, gone));
          const where = saved ? `; the newest is in ${options.out}/` : "";
          output.result(
            {
              run,
              removed,
              releases: releases.map(({ release, digest }) => ({ ...release, digest })),
              ...(saved && { saved }),
            },
            `${releases.length} releases${where}`,
          );
        }),
      ),
    );
}

function removedLine(removed: number): string {
  const which = removed === 1 ? "version 0 is" : `versions 0 to ${removed - 1} are`;
  return `${which} gone: the coordinator keeps the newest only (retention.releases of tutti.json)`;
}

function goneWith(transcript: string, gone: readonly string[]): string {
  return (
    `${transcript} without ${gone.join(", ")}: gone at the coordinator, which keeps the newest rounds only ` +
    "(retention of tutti.json); `tutti verify-round` checks the rest"
  );
}
