import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Truth } from "./truth.ts";

/** What a site writes down for the claim, in its own folder. */
export function truthFile(folder: string, run: string): string {
  return join(folder, `truth-${run}.json`);
}

/** The n-th packed vector that left the site. */
export function uploadFile(folder: string, nth: number): string {
  return join(folder, `upload-${nth}.bin`);
}

export async function readTruth(folder: string, run: string): Promise<Truth> {
  return JSON.parse(await readFile(truthFile(folder, run), "utf8")) as Truth;
}
