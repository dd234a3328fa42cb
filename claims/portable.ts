import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import type { Claim } from "./claim.ts";
import { type Bundle, bundle } from "./support/bundle.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Engines are chosen by whoever runs a graph, and passed in: only their types are known to the libraries. */
const ENGINES = /^@tensorflow\/|^onnxruntime-/;

type Sizes = { readonly raw: number; readonly gzip: number };

export const claim: Claim = {
  name: "portable",
  target:
    "Vite bundles every library, and the device SDK without its node folder, for a browser: no Node " +
    "built-in, no shim, no engine inside, and each bundle loads where a page's globals are all there is",
  async run(report) {
    const rooms = [
      ...readdirSync(join(ROOT, "libs")).map((room) => `libs/${room}`),
      "apps/client-sdk",
    ].sort();
    const index: Record<string, Sizes> = {};
    const whole: Record<string, Sizes> = {};
    const wrong: string[] = [];
    const declaredAbsent = new Set<string>();
    for (const room of rooms) {
      const promised = await bundleOf([join(ROOT, room, "src/index.ts")]);
      const all = await bundleOf(filesOf(room));
      index[room] = sizesOf(promised);
      whole[room] = sizesOf(all);
      for (const built of [promised, all]) {
        wrong.push(...faultsOf(built).map((fault) => `${room}: ${fault}`));
        for (const one of built.declaredAbsent) declaredAbsent.add(one);
      }
      report(`${room.padEnd(18)} index ${shown(promised)}   every file ${shown(all)}`);
    }
    const figures = { rooms: rooms.length, index, whole, wrong, declaredAbsent: [...declaredAbsent] };
    return { figures, holds: wrong.length === 0 };
  },
};

async function bundleOf(files: readonly string[]): Promise<Bundle> {
  const source = files.map((file, at) => `export * as _${at} from ${JSON.stringify(file)};`).join("\n");
  return bundle(source, { root: ROOT, name: "room" });
}

/** Every source of a room, since a neighbour imports files and not the index; of the SDK all but `node/`. */
function filesOf(room: string): string[] {
  const src = join(ROOT, room, "src");
  return readdirSync(src, { recursive: true, encoding: "utf8" })
    .map((file) => file.replaceAll("\\", "/"))
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts") && !/^(node|gen)\//.test(file))
    .sort()
    .map((file) => join(src, file));
}

function faultsOf(built: Bundle): string[] {
  const engines = built.packages.filter((name) => ENGINES.test(name)).map((name) => `engine ${name}`);
  return [...built.builtins.map((name) => `built-in ${name}`), ...engines, ...loadingFaults(built.code)];
}

/** Runs the script where there is no `process`, `Buffer` or `require`, only what pages and workers have. */
function loadingFaults(code: string): string[] {
  const page = createContext({
    TextEncoder,
    TextDecoder,
    URL,
    crypto,
    performance,
    setTimeout,
    clearTimeout,
  });
  try {
    runInContext(`"use strict"; globalThis.self = globalThis; ${code}`, page);
    return [];
  } catch (error) {
    return [`loading: ${error instanceof Error ? error.message : String(error)}`];
  }
}

function sizesOf({ raw, gzip }: Bundle): Sizes {
  return { raw, gzip };
}

function shown({ raw, gzip }: Bundle): string {
  return `${raw} bytes, ${gzip} gzip`.padEnd(28);
}
