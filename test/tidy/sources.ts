import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export type Source = {
  /** Relative to the project's root, with forward slashes. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
  /** What it imports or re-exports, as written. */
  readonly imports: readonly string[];
};

const SKIP = new Set(["node_modules", "gen", "dist", ".git", ".nx"]);

/** Every TypeScript source under a folder, generated code left out. */
export function sources(folder: string): Source[] {
  const found: Source[] = [];
  const walk = (at: string) => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      if (SKIP.has(entry.name)) continue;
      const path = join(at, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (/\.ts$/.test(entry.name)) found.push(source(path));
    }
  };
  walk(join(ROOT, folder));
  return found;
}

function source(path: string): Source {
  const text = readFileSync(path, "utf8");
  const specifiers = [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"([^"\n]+)"/g)].map((match) => match[1]!);
  return {
    path: relative(ROOT, path).replaceAll("\\", "/"),
    text,
    lines: text.split("\n"),
    imports: specifiers,
  };
}

/** "libs/graph" of libs/graph/src/ir.ts. */
export function roomOf(path: string): string {
  return path.split("/").slice(0, 2).join("/");
}
