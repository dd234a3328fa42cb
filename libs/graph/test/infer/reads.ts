import { readdirSync, readFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Node } from "../../src/ir.ts";

/*
 * What the rules of an operator can read: the words in quotes within a rule and within all that it calls, by
 * the library's own text. A word may be quoted there for another purpose, so this finds what nothing reads.
 */

const ROOT = fileURLToPath(new URL("../../src/", import.meta.url));

/** Where an operator's rules stand. Engines and `evaluate` come after `infer`, so they read together. */
export type Layer = "infer" | "evaluate" | "expand" | "engines/tfjs";

type Source = {
  /** Text of each top-level declaration, by name. */
  readonly declared: ReadonlyMap<string, string>;
  /** By the name it has here: the file it comes from and its name there, `*` for all of the file. */
  readonly imported: ReadonlyMap<string, readonly [file: string, name: string]>;
};

const sources = new Map<string, Source>();

function sourceOf(file: string): Source {
  const held = sources.get(file);
  if (held) return held;
  const text = readFileSync(ROOT + file, "utf8").replaceAll(/^ *(\/\/|\/\*\*|\*).*$/gm, "");
  const source = { declared: declarations(text), imported: imports(file, text) };
  sources.set(file, source);
  return source;
}

/** A declaration begins a line and goes on to the next that does. */
function declarations(text: string): ReadonlyMap<string, string> {
  const parts = text.split(/^(?=(?:export )?(?:async )?(?:const|function|class) )/m).slice(1);
  return new Map(
    parts.flatMap((part) => {
      const [, kind, list, name] = /(const|function|class) (?:\[(.*?)\]|(\w+))/s.exec(part)!;
      const names = name === undefined && kind === "const" ? list!.split(/\W+/) : [name!];
      return names.filter(Boolean).map((each) => [each, part] as const);
    }),
  );
}

function imports(file: string, text: string): ReadonlyMap<string, readonly [string, string]> {
  const found = new Map<string, readonly [string, string]>();
  for (const [, names, from] of text.matchAll(/^(?:im|ex)port ([^;=]*?) from "(\..*?)";/gms)) {
    const target = relative(ROOT, resolve(ROOT, dirname(file), from!));
    const whole = /^\* as (\w+)$/.exec(names!);
    if (whole) found.set(whole[1]!, [target, "*"]);
    for (const [, name, as = name] of names!.matchAll(/(\w+)(?: as (\w+))?(?=\s*[,}])/g))
      found.set(as!, [target, name!]);
  }
  return found;
}

/** Adds the words quoted in a declaration and in whatever it calls. */
function gather(file: string, name: string, into: { words: Set<string>; been: Set<string> }): void {
  const key = `${file} ${name}`;
  if (into.been.has(key)) return;
  into.been.add(key);
  const { declared, imported } = sourceOf(file);
  const [from, there] = imported.get(name) ?? [];
  const text = declared.get(name);
  if (text === undefined) {
    if (from !== undefined && there !== "*") gather(from, there!, into);
    return;
  }
  for (const [, word] of text.matchAll(/"(\w+)"/g)) into.words.add(word!);
  for (const [, whole, part] of text.matchAll(/(?<![.\w])(\w+)\.(\w+)/g)) {
    const [other, all] = imported.get(whole!) ?? [];
    if (all === "*") gather(other!, part!, into);
  }
  // Unquoted, so that a word is not taken for a function of that name; nor is `at.int` for a function `int`.
  for (const [called] of text.replaceAll(/"\w*"/g, "").matchAll(/(?<!\w|(?<!\.\.)\.)[A-Za-z]\w*/g))
    if (declared.has(called) || imported.has(called)) gather(file, called, into);
}

/** Files of a layer, by domain. */
function filesOf(layer: Layer, domain: string): readonly string[] {
  const folder = domain === "" || layer === "evaluate" ? layer : `${layer}/microsoft`;
  try {
    const names = readdirSync(ROOT + folder).filter((name) => name.endsWith(".ts"));
    return names.map((name) => `${folder}/${name}`);
  } catch {
    return [];
  }
}

/** The words that the operator's rules of one layer can read; undefined where the layer has none. */
export function wordsOf({ domain, op }: Pick<Node, "domain" | "op">, layer: Layer): Set<string> | undefined {
  const files = filesOf(layer, domain).filter((file) => {
    const { declared, imported } = sourceOf(file);
    return declared.has(op) || imported.has(op);
  });
  if (files.length === 0) return undefined;
  const into = { words: new Set<string>(), been: new Set<string>() };
  for (const file of files) gather(file, op, into);
  return into.words;
}
