import { stat } from "node:fs/promises";
import { join } from "node:path";
import { PATHS } from "./layout.ts";

/**
 * What is wrong with a private key's mode; "" for nothing. Its group may read it: so a secret comes to a
 * container that is not root (Kubernetes' fsGroup).
 */
export function tooOpen(mode: number): string {
  if ((mode & 0o007) !== 0) return "others may read it";
  return (mode & 0o030) !== 0 ? "its group may change it" : "";
}

export async function modeOf(file: string): Promise<number> {
  return (await stat(file)).mode & 0o777;
}

/** The keys that a coordinator serves with, where they are open to others. */
export async function openKeys(folder: string): Promise<{ file: string; mode: string; because: string }[]> {
  const found: { file: string; mode: string; because: string }[] = [];
  for (const path of [PATHS.coordinatorKey, PATHS.tlsKey]) {
    const mode = await modeOf(join(folder, path));
    const because = tooOpen(mode);
    if (because) found.push({ file: path, mode: mode.toString(8), because });
  }
  return found;
}
