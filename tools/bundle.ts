import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Metafile } from "esbuild";

const ROOT = new URL("../", import.meta.url);
const COORDINATOR = new URL("apps/coordinator/src/", ROOT);

/**
 * They stay in node_modules: native code, what an installed native package must share with us, and what loads
 * parts of its own by names that bundling takes away.
 */
const INSTALLED = ["libsql", "onnxruntime-node", "@tensorflow/*", "@opentelemetry/*"];
/** pg asks for them where they are of use, which is not here. */
const UNUSED = ["pg-native", "pg-cloudflare"];

/** Packages of CommonJS that were bundled ask for Node's own modules by `require`. */
const REQUIRE = 'import{createRequire as requirer}from"node:module";const require=requirer(import.meta.url);';

/**
 * A program as plain JavaScript: `<name>.mjs` in a folder, which imports it from `<hash>/` beside it. There lies
 * all that it loads: parts, the thread that lifts masks, the store's migrations. A process loads some of that
 * late, so the build before stays until the next but one. The folder must lie where `node_modules` is found
 * from it.
 */
export async function bundle(program: URL, { name, folder }: { name: string; folder: URL }): Promise<void> {
  const path = fileURLToPath(folder);
  const fresh = join(path, `.${process.pid}`);
  try {
    await emit({ [name]: program, thread: new URL("unmask/thread.ts", COORDINATOR) }, fresh);
    const hash = await hashOf(fresh);
    await put(fresh, join(path, hash), hash);
    const launcher = join(path, `${name}.mjs`);
    const before = /"\.\/(\w+)\//.exec(await readFile(launcher, "utf8").catch(() => ""))?.[1];
    if (hash === before) return;
    const part = join(path, `.${process.pid}.mjs`);
    await writeFile(part, `import "./${hash}/${name}.mjs";\n`);
    await rename(part, launcher);
    const stay = [hash, before, basename(launcher)];
    for (const other of await readdir(path))
      if (!stay.includes(other) && !isAtWork(other))
        await rm(join(path, other), { recursive: true, force: true });
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** Unless it is there already, as it must be: somebody may have taken it away, or changed it. */
async function put(fresh: string, place: string, hash: string): Promise<void> {
  const isThere = async () => existsSync(place) && (await hashOf(place)) === hash;
  if (await isThere()) return;
  await rm(place, { recursive: true, force: true });
  await rename(fresh, place).catch(async (cause) => {
    // Another build at the same time was first.
    if (!(await isThere())) throw cause;
  });
}

/** Whether a name is that of what another build writes now, whose process is there. */
function isAtWork(name: string): boolean {
  const pid = /^\.([1-9]\d*)(\.mjs)?$/.exec(name)?.[1];
  if (!pid) return false;
  try {
    return process.kill(Number(pid), 0);
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Nothing is minified, so that stack traces can be read. */
async function emit(programs: Readonly<Record<string, URL>>, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const entries = Object.entries(programs).map(([name, url]) => [name, fileURLToPath(url)]);
  const { metafile } = await build({
    entryPoints: Object.fromEntries(entries),
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    external: [...INSTALLED, ...UNUSED],
    banner: { js: REQUIRE },
    legalComments: "linked",
    logLevel: "warning",
    metafile: true,
  });
  refuseDynamicCommonJs(metafile);
  await writeFile(join(folder, "LICENSES.txt"), await licencesOf(metafile));
  await cp(new URL("store/migrations/", COORDINATOR), join(folder, "migrations"), { recursive: true });
}

/** `import()` of a bundled CommonJS package gives its default export and no names, unlike Node's own. */
function refuseDynamicCommonJs({ inputs }: Metafile): void {
  for (const [file, { imports }] of Object.entries(inputs))
    for (const { kind, path } of imports)
      if (kind === "dynamic-import" && inputs[path]?.format === "cjs")
        throw new Error(
          `${file} loads ${path} by import(): load a file of ours that imports it by a statement`,
        );
}

/** Packages that are in the bundle, each with its licence: most ask for its text beside every copy. */
async function licencesOf({ inputs }: Metafile): Promise<string> {
  const homes = Object.keys(inputs).map(
    (file) => /^.*\bnode_modules\/(?:@[^/]+\/)?[^./][^/]*(?=\/)/.exec(file)?.[0],
  );
  const texts = [...new Set(homes)]
    .filter((home) => home !== undefined)
    .map(async (home) => {
      const { name, version, license } = JSON.parse(await readFile(join(home, "package.json"), "utf8"));
      const files = (await readdir(home))
        .filter((file) => /^(licen[cs]e|copying|notice)\b/i.test(file))
        .sort();
      const parts = await Promise.all(files.map((file) => readFile(join(home, file), "utf8")));
      if (parts.length === 0 && !license)
        throw new Error(`${name} ${version}: no licence that could go along`);
      return [`${name} ${version}: ${license}`, ...parts.map((part) => part.trim())].join("\n\n");
    });
  return `${(await Promise.all(texts)).sort().join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}

async function hashOf(folder: string): Promise<string> {
  const hash = createHash("sha256");
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name));
  for (const path of paths.sort()) hash.update(path.slice(folder.length)).update(await readFile(path));
  return hash.digest("hex").slice(0, 16);
}
