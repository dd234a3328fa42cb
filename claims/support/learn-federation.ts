import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunStatus } from "@tutti/wire/admin";
import { asOwner, recordsAfter, startPrepared } from "tutti/owner";
import type { PreparedRun } from "tutti/prepare";
import { saveRelease } from "tutti/save";
import { roundLine } from "tutti/status";
import { freePort, Processes, TUTTI } from "../../examples/penguins/src/processes.ts";

/** A finished run: what the coordinator knows of it, and the base with the last adapter merged in. */
export type Finished = { readonly status: RunStatus; readonly merged: Uint8Array };

/** A federation in a temporary folder, its coordinator a process of its own on loopback. */
export type TestFederation = {
  readonly folder: string;
  readonly processes: Processes;
  /** A one-time join file for a site; its path. */
  token(site: string): Promise<string>;
  /** Starts a run as its owner and follows it to its end. @throws Error when it ends other than finished. */
  train(prepared: PreparedRun): Promise<Finished>;
};

/** `body` with a federation that is gone afterwards: processes ended, folder removed. */
export async function withFederation<T>(
  report: (line: string) => void,
  body: (federation: TestFederation) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "tutti-learn-"));
  const stop = new AbortController();
  await mkdir(join(folder, "logs"));
  const processes = new Processes(TUTTI, { logs: join(folder, "logs"), signal: stop.signal });
  try {
    const federation = join(folder, "federation");
    const port = String(await freePort());
    await processes.run("init", ["init", federation, "--name", "claim", "--port", port]);
    await processes.start("coordinator", ["serve", federation]);
    return await body({
      folder,
      processes,
      token: async (site) => {
        const file = join(folder, `${site}.join.json`);
        await processes.run(`token-${site}`, ["token", site, "--federation", federation, "--out", file]);
        return file;
      },
      train: (prepared) => trainRun(prepared, { federation, folder, report }),
    });
  } finally {
    await processes.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function trainRun(
  prepared: PreparedRun,
  { federation, folder, report }: { federation: string; folder: string; report: (line: string) => void },
): Promise<Finished> {
  return asOwner(federation, async (admin, owner) => {
    const run = await startPrepared(admin, owner, prepared);
    let status: RunStatus | undefined;
    for await (const next of admin.watch({ $typeName: "tutti.v1.RunRequest", run })) {
      const fresh = recordsAfter(status ? status.earlier + status.history.length : 0, next);
      for (const record of fresh) report(`  ${roundLine(record, next.rounds)}`);
      status = next;
    }
    if (status?.state !== "finished") throw new Error(`the run ended as ${status?.state}: ${status?.reason}`);
    const release = { run, folder: join(folder, "releases", run), authority: owner.authority };
    const { merged } = await saveRelease(admin, release);
    return { status, merged: new Uint8Array(await readFile(merged)) };
  });
}
