import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../../", import.meta.url).href;
/** By file URL, what is replaced in it. */
const changes = new Map();

/** Every text is looked for before anything runs, so that a defence that moved fails by its name. */
export function prepare(patches) {
  for (const { file, find, replace } of patches) {
    const url = ROOT + file;
    const before = changes.get(url) ?? readFileSync(fileURLToPath(url), "utf8");
    const times = before.split(find).length - 1;
    if (times !== 1) throw new Error(`${file}: expected once, found ${times} times: ${find}`);
    changes.set(
      url,
      before.replace(find, () => replace),
    );
  }
}

export function initialize(patches) {
  prepare(patches);
}

/** Async where Node's hooks are, and not where they are not: what `nextLoad` gives is handed on. */
export function load(url, context, nextLoad) {
  const source = changes.get(url.split("?")[0]);
  const loaded = nextLoad(url, context);
  if (source === undefined) return loaded;
  return loaded instanceof Promise ? loaded.then((given) => ({ ...given, source })) : { ...loaded, source };
}
