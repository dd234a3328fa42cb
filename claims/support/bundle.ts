import { isBuiltin } from "node:module";
import { gzipSync } from "node:zlib";
import { createLogger, type InlineConfig, type Plugin, build as viteBuild } from "vite";

/** What a browser bundle of one entry is, and what of Node it asked for on the way. */
export type Bundle = {
  /** One script that sets the global `name` to the entry's exports. */
  readonly code: string;
  readonly raw: number;
  readonly gzip: number;
  /** Outside packages in it. */
  readonly packages: readonly string[];
  /** Node built-ins asked for and replaced or left outside by Vite, and its warnings that say so. */
  readonly builtins: readonly string[];
  /** Built-ins that a package itself declares absent in browsers, by `false` in its `browser` field. */
  readonly declaredAbsent: readonly string[];
};

const ENTRY = "virtual:entry";
/** Vite's empty module: with `:name` behind it where Vite decided, bare where the package did. */
const EMPTY = "__vite-browser-external";

/** Bundles `source`, a module's text, as a page would: Vite's defaults, minified, one script. */
export async function bundle(
  source: string,
  { root, name }: { root: string; name: string },
): Promise<Bundle> {
  const asked = { builtins: new Set<string>(), declaredAbsent: new Set<string>() };
  const built = await viteBuild({
    ...quiet((message) => asked.builtins.add(message)),
    configFile: false,
    root,
    plugins: [entry(source), watchBuiltins(asked)],
    build: {
      write: false,
      copyPublicDir: false,
      modulePreload: false,
      reportCompressedSize: false,
      rolldownOptions: {
        input: ENTRY,
        preserveEntrySignatures: "strict",
        output: { format: "iife", name },
      },
    },
  });
  if (!("output" in built)) throw new Error("expected one output of vite");
  const chunk = built.output.find((item) => item.type === "chunk");
  if (!chunk || built.output.length !== 1) {
    throw new Error(`expected one script, got ${built.output.map(({ fileName }) => fileName).join(", ")}`);
  }
  for (const left of [...chunk.imports, ...chunk.dynamicImports]) asked.builtins.add(`left outside: ${left}`);
  return {
    code: chunk.code,
    raw: Buffer.byteLength(chunk.code),
    gzip: gzipSync(chunk.code, { level: 9 }).length,
    packages: packagesOf(Object.keys(chunk.modules)),
    builtins: [...asked.builtins].sort(),
    declaredAbsent: [...asked.declaredAbsent].sort(),
  };
}

function entry(source: string): Plugin {
  return {
    name: "entry",
    resolveId: (id) => (id === ENTRY ? ENTRY : null),
    load: (id) => (id === ENTRY ? source : null),
  };
}

/** Sees every built-in before Vite does, and what Vite makes of it. */
function watchBuiltins(asked: { builtins: Set<string>; declaredAbsent: Set<string> }): Plugin {
  return {
    name: "watch-builtins",
    enforce: "pre",
    async resolveId(id, importer, options) {
      if (!isBuiltin(id)) return null;
      const resolved = await this.resolve(id, importer, { ...options, skipSelf: true });
      // A package of the same name as a built-in ("buffer", "process") would be a shim, and counts as well.
      const absent = resolved?.id === EMPTY;
      const from = packagesOf([importer ?? ""])[0] ?? importer;
      (absent ? asked.declaredAbsent : asked.builtins).add(`${id} in ${from}`);
      return resolved;
    },
  };
}

/** Vite says in a warning that it put an empty module in a built-in's place; other warnings are kept too. */
function quiet(onWarning: (message: string) => void): Pick<InlineConfig, "customLogger" | "logLevel"> {
  const logger = createLogger("silent");
  const warn = (message: string) => onWarning(message.split("\n")[0]!);
  return { logLevel: "silent", customLogger: { ...logger, warn, warnOnce: warn } };
}

function packagesOf(ids: readonly string[]): string[] {
  const names = ids.flatMap((id) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(id)?.[1] ?? []);
  return [...new Set(names)].sort();
}
