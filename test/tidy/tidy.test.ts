import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";
import { HOMES, ROOMS, SIZES } from "./rooms.ts";
import { ROOT, roomOf, type Source, sources } from "./sources.ts";

const inside = [...sources("libs"), ...sources("apps")].filter(({ path }) => path.includes("/src/"));
const everything = [
  ...sources("libs"),
  ...sources("apps"),
  ...sources("examples"),
  ...sources("claims"),
  ...sources("test"),
];

describe("the staircase of imports", () => {
  test("a room imports only what its line names", () => {
    const wrong = inside.flatMap(({ path, imports }) => {
      const room = roomOf(path);
      const allowed = ROOMS[room];
      if (!allowed) return [`${path}: ${room} has no line in rooms.ts`];
      return imports
        .filter((specifier) => specifier.startsWith("@tutti/"))
        .map((specifier) => specifier.slice("@tutti/".length))
        .filter((target) => !allowed.some((name) => target === name || target.startsWith(`${name}/`)))
        .map((target) => `${path} imports ${target}`);
    });
    expect(wrong).toEqual([]);
  });

  test("inside the house a file is imported, never an index", () => {
    const wrong = inside.flatMap(({ path, imports }) =>
      imports
        .filter((specifier) => /^@tutti\/[\w-]+$|\/index(\.ts)?$/.test(specifier))
        .map((it) => `${path}: ${it}`),
    );
    expect(wrong.filter((it) => !it.includes("/index.ts:"))).toEqual([]);
  });

  test("no import cycle", () => {
    expect(cycles(inside)).toEqual([]);
  });

  test("package.json of each room names exactly the rooms and packages that its sources import", () => {
    const wrong = Object.keys(ROOMS).flatMap((room) => {
      const manifest = JSON.parse(readFileSync(join(ROOT, room, "package.json"), "utf8")) as Manifest;
      const declared = Object.keys(manifest.dependencies ?? {}).sort();
      const own = inside.filter(({ path }) => roomOf(path) === room);
      const used = new Set(
        own.flatMap(({ imports }) => imports.map(packageOf)).filter((name) => name !== ""),
      );
      const optional = new Set(Object.keys(manifest.optionalDependencies ?? {}));
      const missing = [...used].filter(
        (name) => !declared.includes(name) && !optional.has(name) && name !== manifest.name,
      );
      const idle = declared.filter((name) => !used.has(name) && !RUN_TIME_ONLY.has(name));
      return [
        ...missing.map((name) => `${room} lacks ${name}`),
        ...idle.map((name) => `${room} does not use ${name}`),
      ];
    });
    expect(wrong).toEqual([]);
  });
});

describe("where things live", () => {
  test("each outside package has its home", () => {
    const wrong = inside.flatMap(({ path, imports }) =>
      imports
        .map(packageOf)
        .filter((name) => name !== "" && !name.startsWith("@tutti/"))
        .filter((name) => !(HOMES[name] ?? []).some((home) => path.startsWith(home)))
        .map((name) => `${path} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  test("libs run everywhere: no node: import, no Buffer, no ambient chance or process", () => {
    const libs = inside.filter(({ path }) => path.startsWith("libs/"));
    const wrong = libs.flatMap(({ path, lines, imports }) => [
      ...imports
        .filter((specifier) => specifier.startsWith("node:"))
        .map((specifier) => `${path}: ${specifier}`),
      ...lines
        .filter((line) => /\b(Buffer|process)\s*[.[(]|Math\.random/.test(code(line)))
        .map((line) => `${path}: ${line.trim()}`),
      ...lines
        .filter((line) => /\b(Date\.now|performance\.now|getRandomValues)\b/.test(code(line)))
        .filter(() => !/libs\/foundation\/src\/(clock|random)\.ts/.test(path))
        .map((line) => `${path}: ${line.trim()}`),
    ]);
    expect(wrong).toEqual([]);
  });

  test("the coordinator reaches no code that trains or runs a model; the device none that aggregates", () => {
    const coordinator = reachable("apps/coordinator/src/serve.ts");
    expect([...coordinator].filter((path) => /libs\/(graph|train)\/|client-sdk/.test(path))).toEqual([]);
    const device = reachable("apps/client-sdk/src/node/index.ts");
    expect(
      [...device].filter((path) => /libs\/(strategy|secagg\/src\/server)|apps\/coordinator/.test(path)),
    ).toEqual([]);
  });
});

describe("sizes and style", () => {
  test("no file over the limit, the median below its own", () => {
    const lengths = everything.map(({ path, lines }) => ({ path, length: lines.length }));
    expect(lengths.filter(({ length }) => length > SIZES.fileLines)).toEqual([]);
    const sorted = lengths.map(({ length }) => length).sort((a, b) => a - b);
    expect(sorted[sorted.length >> 1]).toBeLessThanOrEqual(SIZES.fileMedian);
  });

  test("no function over the limit", () => {
    expect(everything.flatMap(longFunctions)).toEqual([]);
  });

  test("no line over the limit", () => {
    const long = everything.flatMap(({ path, lines }) =>
      lines.flatMap((line, at) => (line.length > SIZES.lineLength ? [`${path}:${at + 1}`] : [])),
    );
    expect(long).toEqual([]);
  });

  test("no any, no default export, no enum, no skipped or focused test without a reason", () => {
    const wrong = everything
      .filter(({ path }) => !path.startsWith("test/tidy/"))
      .flatMap(({ path, lines }) =>
        lines
          .filter((line) =>
            /:\s*any\b|<any>|\bas any\b|^export default|^(export )?enum |\.only\(/.test(code(line)),
          )
          .map((line) => `${path}: ${line.trim()}`),
      );
    expect(wrong).toEqual([]);
  });
});

type Manifest = {
  name: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
};

/** Loaded by name at run time, or run as a program, and so never seen as an import of src. */
const RUN_TIME_ONLY = new Set(["tsx", "libsql"]);

/** The package a specifier belongs to; "" for relative paths and Node's own modules. */
function packageOf(specifier: string): string {
  if (specifier.startsWith(".") || specifier.startsWith("node:")) return "";
  const parts = specifier.split("/");
  return specifier.startsWith("@") ? parts.slice(0, 2).join("/") : parts[0]!;
}

/** A line without its comment and strings, so that words in prose do not count. */
function code(line: string): string {
  return line
    .replace(/^\s*(\/\/|\*|\/\*).*$/, "")
    .replace(/"[^"]*"|`[^`]*`/g, '""')
    .replace(/\/\/.*$/, "");
}

function resolveImport(from: string, specifier: string): string {
  if (specifier.startsWith(".")) return normalize(join(dirname(from), specifier));
  const [, room, ...rest] = specifier.split("/");
  const home = room === "client-sdk" || room === "coordinator" ? "apps" : "libs";
  return `${home}/${room}/src/${rest.join("/") || "index"}.ts`;
}

function graphOf(files: readonly Source[]): Map<string, string[]> {
  return new Map(
    files.map(({ path, text }) => {
      // Types vanish before anything runs, so a type-only import cannot make a cycle.
      const live = [...text.matchAll(/^(?:import|export)\s+(?!type\b)[^;]*?from\s+"([^"]+)"/gm)].map(
        (match) => match[1]!,
      );
      const local = live.filter((specifier) => specifier.startsWith(".") || specifier.startsWith("@tutti/"));
      return [path, local.map((specifier) => resolveImport(path, specifier))];
    }),
  );
}

function reachable(entry: string): Set<string> {
  const graph = graphOf(inside);
  const seen = new Set<string>();
  const visit = (path: string) => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const next of graph.get(path) ?? []) visit(next);
  };
  visit(entry);
  return seen;
}

function cycles(files: readonly Source[]): string[] {
  const graph = graphOf(files);
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]) => {
    if (trail.includes(path)) found.push([...trail.slice(trail.indexOf(path)), path].join(" → "));
    if (done.has(path) || trail.includes(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return found;
}

/** How a function begins on a line: a declaration, an arrow with a body, a method. */
const OPENINGS = [
  /^\s*(export )?(async )?function\b/,
  /^\s*(const \w+ = )?(async )?\(.*=> \{$/,
  /^ {2}(async )?[#*\w]+\(.*\{$/,
];

/** Functions by indentation, which the formatter guarantees: from the opening line to its closing brace. */
function longFunctions({ path, lines }: Source): string[] {
  return lines.flatMap((line, start) => {
    if (!OPENINGS.some((opening) => opening.test(line))) return [];
    if (path.includes("/test/") || /describe\(/.test(line)) return [];
    const indent = line.length - line.trimStart().length;
    const end = lines.findIndex((other, at) => at > start && other.startsWith(`${" ".repeat(indent)}}`));
    const length = end - start + 1;
    return end > 0 && length > SIZES.functionLines ? [`${path}:${start + 1} ${length} lines`] : [];
  });
}
