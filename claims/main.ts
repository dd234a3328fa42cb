import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Claim } from "./claim.ts";

const HERE = fileURLToPath(new URL(".", import.meta.url));
/** Files of this folder that are not claims. */
const NOT_CLAIMS = new Set(["main", "claim", "support"]);

/** Every claim by name: claims/round/drop.ts is `round/drop`. */
async function claimNames(): Promise<string[]> {
  const files = await readdir(HERE, { recursive: true });
  const names = files
    .filter((file) => file.endsWith(".ts"))
    .map((file) => relative(HERE, join(HERE, file)).slice(0, -3));
  return names.filter((name) => !NOT_CLAIMS.has(name.split("/")[0]!)).sort();
}

async function load(name: string): Promise<Claim> {
  const module = (await import(pathToFileURL(join(HERE, `${name}.ts`)).href)) as { claim: Claim };
  return module.claim;
}

async function list(): Promise<void> {
  for (const name of await claimNames()) console.log(`${name.padEnd(18)} ${(await load(name)).target}`);
}

/** Runs a claim; its last line on stdout is the result as one JSON object, progress goes to stderr. */
async function run(name: string): Promise<number> {
  const names = await claimNames();
  if (!names.includes(name)) {
    process.stderr.write(`claim ${name}: expected one of ${names.join(", ")}\n`);
    return 2;
  }
  const { target, run } = await load(name);
  const { figures, holds } = await run((line) => process.stderr.write(`${line}\n`));
  console.log(JSON.stringify({ claim: name, figures, target, holds }));
  return holds ? 0 : 1;
}

const [name] = process.argv.slice(2);
if (name === undefined) await list();
else process.exitCode = await run(name);
