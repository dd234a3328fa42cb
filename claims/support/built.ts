import { basename } from "node:path";
import { bundle } from "../../tools/bundle.ts";

const CACHE = new URL("../../node_modules/.cache/tutti/", import.meta.url);

/** A program of the claims as plain JavaScript: a coordinator is measured as it is deployed. */
export async function built(program: URL): Promise<URL> {
  const name = basename(program.pathname, ".ts");
  const folder = new URL(`${name}/`, CACHE);
  await bundle(program, { name, folder });
  return new URL(`${name}.mjs`, folder);
}
