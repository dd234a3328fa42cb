import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { signPlan } from "@tutti/release/plan";
import type { RunStatus } from "@tutti/wire/admin";
import { type AdminLink, asOwner, putArtifact } from "tutti/owner";
import type { PreparedRun } from "tutti/prepare";
import { type Saved, saveRelease } from "tutti/save";
import { type Flock, ISLANDS, notebook } from "./birds.ts";
import { freePort, type Processes } from "./processes.ts";
import type { Screen } from "./screen.ts";

export type Federated = { readonly status: RunStatus; readonly saved: Saved };

/**
 * One coordinator process and three site processes, made with the commands a person would type; then a run is
 * started as its owner and followed to its end.
 */
export async function federate(
  prepared: PreparedRun,
  options: { folder: string; flock: Flock; processes: Processes; screen: Screen; signal: AbortSignal },
): Promise<Federated> {
  const { folder, flock, processes, screen, signal } = options;
  const federation = join(folder, "federation");
  const port = String(await freePort());
  await processes.run("init", ["init", federation, "--name", "palmer", "--port", port]);
  const { address } = await processes.start("coordinator", ["serve", federation]);
  screen.say(`coordinator on ${address}, gRPC over TLS`);
  await Promise.all(ISLANDS.map((island) => openSite(island, { folder, federation, flock, processes })));
  screen.say(`three sites enrolled with one-time tokens: ${ISLANDS.join(", ")}`);
  return asOwner(federation, async (admin, owner) => {
    await putArtifact(admin, prepared.base);
    await putArtifact(admin, prepared.initial);
    const { run } = await admin.startRun({
      $typeName: "tutti.v1.StartRunRequest",
      plan: signPlan(prepared.plan, owner),
    });
    const status = await follow(admin, run, { screen, signal });
    const saved = await saveRelease(admin, {
      run,
      folder: join(folder, "release"),
      authority: owner.authority,
    });
    return { status, saved };
  });
}

/** A site: its notebook in a folder of its own, its join file, and a process that joins and stays. */
async function openSite(
  island: (typeof ISLANDS)[number],
  {
    folder,
    federation,
    flock,
    processes,
  }: { folder: string; federation: string; flock: Flock; processes: Processes },
): Promise<void> {
  const site = join(folder, "sites", island);
  const data = join(site, "data");
  await mkdir(data, { recursive: true });
  await writeFile(join(data, "notebook.csv"), notebook(flock.sites[island]));
  const file = join(site, "join.json");
  await processes.run(`token-${island}`, ["token", island, "--federation", federation, "--out", file]);
  await processes.start(island, ["join", file, "--folder", join(site, "device"), "--data", data]);
}

async function follow(
  admin: AdminLink,
  run: string,
  { screen, signal }: { screen: Screen; signal: AbortSignal },
): Promise<RunStatus> {
  let last: RunStatus | undefined;
  for await (const status of admin.watch({ $typeName: "tutti.v1.RunRequest", run }, signal)) {
    screen.show(status);
    last = status;
  }
  if (last?.state === "finished") return last;
  throw new Error(
    `the run ended as ${last?.state ?? "nothing"}: ${last?.reason ?? "no word from the coordinator"}`,
  );
}
