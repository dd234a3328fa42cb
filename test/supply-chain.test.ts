import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

type Manifest = {
  readonly name?: string;
  readonly version?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly allowScripts?: Readonly<Record<string, boolean>>;
};

/** An entry of package-lock.json, by the folder that it is installed in. */
type Locked = {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly hasInstallScript?: boolean;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly os?: readonly string[];
};

/** The first versions without what was published about them; a later advisory adds a line. */
const AT_LEAST: Readonly<Record<string, readonly [version: string, because: string]>> = {
  "@grpc/grpc-js": ["1.14.4", "GHSA-5375-pq7m-f5r2, GHSA-99f4-grh7-6pcq: malformed messages end the process"],
  "adm-zip": ["0.6.1", "GHSA-7q85-xj36-vmfc, GHSA-vwc7-r8mq-g2x9: memory, and writes through links"],
  protobufjs: ["7.5.5", "GHSA-xq3m-2v4x-88gg: a crafted descriptor runs code"],
  valibot: ["1.2.0", "GHSA-vqpr-j7v3-hqw9: a regular expression takes minutes"],
  vite: ["8.0.5", "GHSA-p9ff-h696-f583: the development server gives any file"],
};

const manifests = ["", ...["libs", "apps", "examples"].flatMap(foldersOf)].map((folder) => ({
  folder,
  manifest: read<Manifest>(join(folder, "package.json")),
}));
const locked = Object.entries(
  read<{ packages: Record<string, Locked> }>("package-lock.json").packages,
).filter(([path]) => path.includes("node_modules/"));

describe("dependencies", () => {
  test("every version is exact, and the same one in the whole repository", () => {
    const versions = new Map<string, Set<string>>();
    for (const { manifest } of manifests) {
      for (const [name, version] of dependenciesOf(manifest)) {
        versions.set(name, (versions.get(name) ?? new Set()).add(version));
      }
    }
    expect(versions.size).toBeGreaterThan(20);
    const loose = [...versions].filter(([, all]) => all.size !== 1 || ![...all].every(isExact));
    expect(loose.map(([name, all]) => `${name} ${[...all].join(" and ")}`)).toEqual([]);
  });

  test("what is locked is what the manifests ask for", () => {
    const wrong = manifests.flatMap(({ folder, manifest }) =>
      dependenciesOf(manifest).flatMap(([name, version]) => {
        const found = installed(folder, name);
        return found?.version === version ? [] : [`${folder} ${name}: ${version}, locked ${found?.version}`];
      }),
    );
    expect(wrong).toEqual([]);
  });

  test("no version below one with a known advisory", () => {
    for (const [name, [version, because]] of Object.entries(AT_LEAST)) {
      const copies = locked.filter(([path]) => nameOf(path) === name);
      expect(copies.length, `${name} is not installed; take its line out`).toBeGreaterThan(0);
      const old = copies.filter(([, entry]) => compare(entry.version ?? "0", version) < 0);
      expect(old, because).toEqual([]);
    }
  });
});

describe("package-lock.json", () => {
  test("everything comes from the registry, with its hash, or is a folder of this repository", () => {
    const wrong = locked.filter(([, entry]) => {
      if (entry.link) return !/^(libs|apps|examples)\/[\w-]+$/.test(entry.resolved ?? "");
      // npm leaves out where it found a package (any registry will do); the hash alone says what it is.
      const fromRegistry = entry.resolved === undefined || /^https:\/\/[^/]+\/.*\.tgz$/.test(entry.resolved);
      return !fromRegistry || !(entry.integrity?.startsWith("sha512-") || isToolBinary(entry));
    });
    expect(wrong.map(([path]) => path)).toEqual([]);
  });

  test("packages with install scripts are exactly those of allowScripts, and none may run its own", () => {
    const withScripts = locked.filter(([, entry]) => entry.hasInstallScript).map(([path]) => nameOf(path));
    const { allowScripts } = read<Manifest>("package.json");
    expect(Object.keys(allowScripts ?? {}).sort()).toEqual([...new Set(withScripts)].sort());
    expect(Object.values(allowScripts ?? {})).not.toContain(true);
    expect(readFileSync(join(ROOT, ".npmrc"), "utf8")).toMatch(/^ignore-scripts=true$/m);
  });
});

function read<Content>(path: string): Content {
  return JSON.parse(readFileSync(join(ROOT, path), "utf8")) as Content;
}

function foldersOf(group: string): string[] {
  return readdirSync(join(ROOT, group)).map((room) => `${group}/${room}`);
}

function dependenciesOf(manifest: Manifest): [string, string][] {
  const { dependencies, devDependencies, optionalDependencies } = manifest;
  return Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies });
}

/** A development tool's binary for one platform, which may have no hash yet (docs/decisions/0004). */
function isToolBinary({ dev, optional, os }: Locked): boolean {
  return dev === true && optional === true && os !== undefined;
}

const isExact = (version: string) => /^\d+\.\d+\.\d+$/.test(version);

/** "@grpc/grpc-js" of node_modules/a/node_modules/@grpc/grpc-js. */
function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
}

/** The copy that a folder gets: its own, else the root one. Our own rooms are links to their folders. */
function installed(folder: string, name: string): { version?: string } | undefined {
  const own = manifests.find(({ manifest }) => manifest.name === name);
  if (own) return own.manifest;
  const byPath = new Map(locked);
  return byPath.get(`${folder}/node_modules/${name}`) ?? byPath.get(`node_modules/${name}`);
}

function compare(one: string, other: string): number {
  const [a, b] = [one, other].map((version) => version.split(/[.-]/).map(Number));
  for (const at of [0, 1, 2]) {
    const difference = (a?.[at] ?? 0) - (b?.[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
