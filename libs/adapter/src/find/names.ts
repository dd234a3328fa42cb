import type { Node } from "@tutti/graph/ir";

/**
 * Module names. Exporters fold, merge and rename weights, so a weight's own name is often anonymous or
 * another module's (docs/onnx.md, Fields and names); the node says better where it came from.
 */

/** Where torch's dynamo exporter writes the path of modules that led to a node, as a printed Python list. */
const SCOPES = "pkg.torch.onnx.name_scopes";

/**
 * The module a node was exported from (docs/onnx.md, Fields and names): dynamo's metadata, the older
 * exporter's path, the names of the weights it reads, TensorFlow's scope. Undefined where none of them tells.
 */
export function moduleOf(node: Node, weights: readonly string[] = []): string | undefined {
  const path = fromPath(node.name);
  const declared = fromScopes(node) ?? (node.name.startsWith("/") ? path : undefined);
  return declared ?? weights.map(moduleOfTensor).find((module) => module !== undefined) ?? path;
}

/** The last part of where a node came from: tells two nodes of one module apart. */
export function tailOf(node: Node): string {
  return scopes(node)?.at(-1) ?? (node.name.split("/").at(-1) || node.op);
}

/** The module part of an initializer called `<module>.weight` or `<module>.bias`. */
export function moduleOfTensor(name: string): string | undefined {
  return /^(.+)\.(?:weight|bias)$/.exec(name)?.[1];
}

function fromScopes(node: Node): string | undefined {
  const parts = scopes(node);
  if (!parts || parts.length < 2) return undefined;
  // A batch norm folded into a convolution leaves its own scope on the node; the kernel's name is the
  // better one.
  if (node.op === "Conv" && parts.at(-1)!.includes("batch_norm")) return undefined;
  return parts.at(-2) || undefined;
}

function scopes(node: Node): string[] | undefined {
  const printed = node.metadata.get(SCOPES);
  if (printed === undefined) return undefined;
  return Array.from(printed.matchAll(/'([^']*)'|"([^"]*)"/g), (found) => found[1] ?? found[2] ?? "");
}

/** `/m/m.0/Gemm` (torch's older exporter) and `m/dense/MatMul` (TensorFlow's scopes): `m.0`, `m.dense`. */
function fromPath(name: string): string | undefined {
  const parts = name.replace(/^\//, "").split("/").slice(0, -1);
  if (parts.length === 0) return undefined;
  // A part that repeats the one before it ("m", "m.0": a member of a list) gives only what it adds.
  const own = parts.map((part, i) => {
    const before = `${parts[i - 1]}.`;
    return i > 0 && part.startsWith(before) ? part.slice(before.length) : part;
  });
  return own.join(".");
}

/** Whether a pattern means a name: the whole of it or a dotted suffix, `*` standing for any characters. */
export function matches(pattern: string, name: string): boolean {
  return glob(pattern, name) || glob(`*.${pattern}`, name);
}

/**
 * Greedy matching with one point to fall back to: linear in practice, length × length at worst, never more.
 */
function glob(pattern: string, text: string): boolean {
  let [p, t, star, resume] = [0, 0, -1, 0];
  while (t < text.length) {
    if (pattern[p] === "*") [star, resume, p] = [p, t, p + 1];
    else if (pattern[p] === text[t]) [p, t] = [p + 1, t + 1];
    else if (star >= 0) [p, t, resume] = [star + 1, resume + 1, resume + 1];
    else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** One prefix in place of another: how names of a file become names of a graph. */
export type Wrapper = { readonly from: string; readonly to: string };

/**
 * The wrapper under which every one of `wanted` is among `known`: exporters wrap models, so a prefix may
 * differ on either side. The longest common suffix with the first wanted name wins, then the shortest
 * prefix on our side.
 */
export function wrapperOf(wanted: readonly string[], known: ReadonlySet<string>): Wrapper | undefined {
  const [first] = wanted;
  if (first === undefined) return { from: "", to: "" };
  const tries = [...known].map((name) => aligned(first, name)).filter((found) => found.shared > 0);
  tries.sort((a, b) => b.shared - a.shared || a.wrapper.to.length - b.wrapper.to.length);
  const fits = ({ wrapper }: Aligned) => wanted.every((name) => known.has(rewrap(wrapper, name) ?? ""));
  return tries.find(fits)?.wrapper;
}

/** A name with its prefix exchanged; undefined where it does not have it. */
export function rewrap({ from, to }: Wrapper, name: string): string | undefined {
  return name.startsWith(from) ? to + name.slice(from.length) : undefined;
}

type Aligned = { readonly shared: number; readonly wrapper: Wrapper };

function aligned(wanted: string, known: string): Aligned {
  const [a, b] = [wanted.split("."), known.split(".")];
  let shared = 0;
  while (shared < Math.min(a.length, b.length) && a.at(-1 - shared) === b.at(-1 - shared)) shared++;
  const prefix = (parts: readonly string[]) =>
    parts.slice(0, parts.length - shared).map((part) => `${part}.`);
  return { shared, wrapper: { from: prefix(a).join(""), to: prefix(b).join("") } };
}
