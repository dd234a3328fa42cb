import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { write } from "@tutti/graph/write";
import type { Claim } from "../claim.ts";
import { BATCH, encoder, LENGTH, MODEL, SIZES } from "../support/graph-model.ts";

const MOST = 1.5;
const RUNS = 3;
const SUPPORT = fileURLToPath(new URL("../support/", import.meta.url));
const ENGINES = ["tfjs", "onnxruntime"] as const;

/** Resident bytes of one process: libraries loaded, model in memory, step ready to run, and the most ever. */
type Resident = {
  readonly libraryRss: number;
  readonly modelRss: number;
  readonly loadedRss: number;
  readonly peakRss: number;
};

export const claim: Claim = {
  name: "graph/memory",
  target:
    `${MODEL}: the peak resident size of a process that runs training steps is at most ${MOST} times that ` +
    "of torch with PEFT doing the same (whole process; figures without the loaded libraries stand beside)",
  async run(report) {
    const folder = await mkdtemp(join(tmpdir(), "tutti-memory-"));
    try {
      const path = join(folder, "model.onnx");
      await writeFile(path, write(encoder()));
      const ours: Record<string, Resident> = {};
      for (const engine of ENGINES) {
        ours[engine] = await smallest(() => node(engine, path));
        report(`${engine}: ${shown(ours[engine])}`);
      }
      const torch = await smallest(python).catch((error: Error) => absent(error, report));
      if (!torch) return { figures: { ours: inMegabytes(ours), torch: "absent" }, holds: false };
      report(`torch and PEFT: ${shown(torch)}`);
      return judged(ours, torch);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

function judged(ours: Readonly<Record<string, Resident>>, torch: Resident) {
  const above = ({ peakRss, libraryRss }: Resident) => peakRss - libraryRss;
  const ratios = Object.entries(ours).map(([engine, resident]) => {
    const whole = resident.peakRss / torch.peakRss;
    const aboveLibraries = above(resident) / above(torch);
    return [engine, { whole: twoDigits(whole), aboveLibraries: twoDigits(aboveLibraries) }] as const;
  });
  const figures = {
    ours: inMegabytes(ours),
    torch: inMegabytes({ torch }).torch,
    ratios: Object.fromEntries(ratios),
  };
  return { figures, holds: ratios.every(([, { whole }]) => whole <= MOST) };
}

/** Without torch there is nothing to compare with: the claim says so, and does not hold. */
function absent(error: Error, report: (line: string) => void): undefined {
  const [last] = error.message.trim().split("\n").slice(-1);
  report(`no python3 with torch, peft and transformers on this machine, so nothing to compare with: ${last}`);
}

/** A collector that runs late makes a process larger than it had to be; the least of some runs counts. */
async function smallest(run: () => Promise<Resident>): Promise<Resident> {
  const runs: Resident[] = [];
  for (let count = 0; count < RUNS; count++) runs.push(await run());
  return runs.toSorted((a, b) => a.peakRss - b.peakRss)[0]!;
}

const execute = promisify(execFile);

async function node(engine: string, path: string): Promise<Resident> {
  const script = join(SUPPORT, "graph-memory-child.ts");
  const { stdout } = await execute(process.execPath, ["--import", "tsx", script, engine, path]);
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as Resident;
}

async function python(): Promise<Resident> {
  const sizes = JSON.stringify({ ...SIZES, batch: BATCH, length: LENGTH });
  const { stdout } = await execute("python3", [join(SUPPORT, "graph-memory.py"), sizes]);
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as Resident;
}

function inMegabytes(all: Readonly<Record<string, Resident>>): Record<string, Record<string, number>> {
  const megabytes = (resident: Resident) =>
    Object.fromEntries(
      Object.entries(resident).map(([key, bytes]) => [
        key.replace(/(Rss|Bytes)$/, "$1Mb"),
        Math.round(bytes / 1e6),
      ]),
    );
  return Object.fromEntries(Object.entries(all).map(([name, resident]) => [name, megabytes(resident)]));
}

function shown({ libraryRss, peakRss }: Resident): string {
  const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
  return `${megabytes(peakRss)} at its peak, ${megabytes(libraryRss)} of it before the model`;
}

const twoDigits = (value: number) => Math.round(value * 100) / 100;
