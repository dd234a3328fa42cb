import { cp, rename, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build, type Metafile } from "esbuild";

const ROOT = new URL("../", import.meta.url);
const COORDINATOR = new URL("apps/coordinator/src/", ROOT);

/**
 * They stay in node_modules: native code, what an installed native package must share with us, and what loads
 * parts of its own by names that bundling takes away.
 */
const INSTALLED = ["libsql", "onnxruntime-node", "@tensorflow/*", "@opentelemetry/*"];
/** What pg would use where somebody installed it. */
const ABSENT = ["pg-native", "pg-cloudflare"];

/** Packages of CommonJS that were bundled ask for Node's own modules by `require`. */
const REQUIRE = 'import{createRequire as requirer}from"node:module";const require=requirer(import.meta.url);';

/**
 * Programs as plain JavaScript, each `<name>.mjs` in a folder with all that it loads: parts they share, the
 * thread that lifts masks, the store's migrations. The folder must lie where `node_modules` is found from it;
 * what is in it is replaced once all is written. Names stay as in the sources, for stack traces.
 */
export async function bundle(programs: Readonly<Record<string, URL>>, folder: URL): Promise<void> {
  const path = fileURLToPath(folder).replace(/\/$/, "");
  const fresh = `${path}.${process.pid}`;
  const entries = { ...programs, thread: new URL("unmask/thread.ts", COORDINATOR) };
  try {
    const { metafile } = await build({
      entryPoints: Object.fromEntries(
        Object.entries(entries).map(([name, url]) => [name, fileURLToPath(url)]),
      ),
      outdir: fresh,
      outExtension: { ".js": ".mjs" },
      bundle: true,
      splitting: true,
      format: "esm",
      platform: "node",
      target: "node20",
      external: [...INSTALLED, ...ABSENT],
      banner: { js: REQUIRE },
      legalComments: "linked",
      logLevel: "warning",
      metafile: true,
    });
    refuseNameless(metafile);
    await cp(new URL("store/migrations/", COORDINATOR), `${fresh}/migrations`, { recursive: true });
    await rm(path, { recursive: true, force: true });
    await rename(fresh, path);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** `import()` of a bundled CommonJS package gives its default export and no names, unlike Node's own. */
function refuseNameless({ inputs }: Metafile): void {
  for (const [file, { imports }] of Object.entries(inputs))
    for (const { kind, path } of imports)
      if (kind === "dynamic-import" && inputs[path]?.format === "cjs")
        throw new Error(
          `${file} loads ${path} by import(): load a file of ours that imports it by a statement`,
        );
}
