import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/**
 * The folder of models and conformance data that stands beside the project, not in it. Where it is absent the
 * tests that need it are skipped and say so; in CI it must be there.
 */
const FOLDER = fileURLToPath(new URL("../../../../shared/", import.meta.url));

/** The path of a shared file, or undefined (printed) where the folder is not there. */
export function shared(path: string): string | undefined {
  if (existsSync(FOLDER + path)) return FOLDER + path;
  if (process.env.CI === "true") throw new Error(`../shared/${path} is missing, and CI must have it`);
  console.warn(`skipped: ../shared/${path} is not on this machine`);
  return undefined;
}
