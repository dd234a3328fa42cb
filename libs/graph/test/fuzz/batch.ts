import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Cases damaged and walked in a process of its own: what was found, and what it took. */
export type Report = {
  readonly cases: number;
  /** How many cases came how far. */
  readonly fates: Readonly<Record<string, number>>;
  /** Most memory resident, in bytes. */
  readonly residentBytes: number;
};

/** A case that has not ended by then hangs: the slowest sound ones take a second or two. */
const PATIENCE_MS = 60_000;

/** Numbers a process may hold outside typed arrays: what a file makes us count must not grow beyond it. */
const HEAP_MEGABYTES = 512;

/**
 * `script <first seed> <count>`, which prints a JSON line as a case begins, one per defect and one at the
 * end. The last case begun is the guilty one where the process did not end well.
 */
export function batch(
  script: string,
  [first, count]: readonly [number, number],
): Promise<{ defects: string[]; report?: Report }> {
  const heap = `--max-old-space-size=${HEAP_MEGABYTES}`;
  const child = spawn(process.execPath, [heap, "--import", "tsx", script, `${first}`, `${count}`]);
  const defects: string[] = [];
  let [last, report]: [string, Report | undefined] = ["", undefined];
  const kill = () => child.kill("SIGKILL");
  let stalled = setTimeout(kill, PATIENCE_MS);
  createInterface(child.stdout).on("line", (text) => {
    const line = JSON.parse(text) as { begins?: number; defect?: object; report?: Report };
    if (line.begins !== undefined) last = text;
    if (line.defect) defects.push(JSON.stringify(line.defect, null, 2));
    report = line.report ?? report;
    clearTimeout(stalled);
    stalled = setTimeout(kill, PATIENCE_MS);
  });
  let complaint = "";
  child.stderr.on("data", (chunk) => {
    complaint = `${complaint}${chunk}`.slice(-2_000);
  });
  return new Promise((resolve) => {
    child.on("close", (code, signal) => {
      clearTimeout(stalled);
      if (code !== 0) defects.push(`ended with ${code ?? signal} in ${last}\n${complaint}`);
      resolve(report ? { defects, report } : { defects });
    });
  });
}
