import { readFile } from "node:fs/promises";

const UNIT = new URL("../../../deploy/systemd/tutti-coordinator.service", import.meta.url);

/** What the service's unit sets in the environment: a coordinator's memory is measured as it is deployed. */
export async function unitEnvironment(): Promise<Record<string, string>> {
  const lines = (await readFile(UNIT, "utf8")).split("\n").filter((line) => line.startsWith("Environment="));
  const pairs = lines.flatMap((line) => line.slice("Environment=".length).split(" "));
  return Object.fromEntries(
    pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]),
  );
}
