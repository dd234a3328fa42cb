import { Fault } from "@tutti/foundation/fault";
import type { NodeProto } from "@tutti/wire/onnx";

/**
 * Nodes so that each follows what it reads; the file's own order where that already holds (the standard
 * demands it, some writers do not). Inner graphs read values of the outer one, so those count as well.
 */
export function inOrder(
  nodes: readonly NodeProto[],
  { given }: { given: Iterable<string> },
): readonly NodeProto[] {
  const known = new Set(["", ...given]);
  const ready: NodeProto[] = [];
  const waiting = new Map<string, Waiting[]>();
  let left = nodes.length;
  const place = (first: NodeProto) => {
    const stack = [first];
    for (let node = stack.pop(); node; node = stack.pop()) {
      ready.push(node);
      left--;
      for (const output of node.output) {
        known.add(output);
        for (const waiter of waiting.get(output) ?? []) if (--waiter.missing === 0) stack.push(waiter.node);
        waiting.delete(output);
      }
    }
  };
  for (const node of nodes) {
    const missing = [...reads(node)].filter((name) => !known.has(name));
    if (missing.length === 0) place(node);
    const waiter = { node, missing: missing.length };
    for (const name of missing) {
      const others = waiting.get(name);
      if (others) others.push(waiter);
      else waiting.set(name, [waiter]);
    }
  }
  if (left > 0) throw stuck(waiting, nodes);
  return ready;
}

type Waiting = { readonly node: NodeProto; missing: number };

/** Values a node reads, those of its inner graphs included, without what those define themselves. */
function reads(node: NodeProto): Set<string> {
  const names = new Set(node.input);
  for (const { g } of node.attribute) {
    if (!g) continue;
    const own = new Set([...g.initializer, ...g.input].map(({ name }) => name));
    for (const inner of g.node) for (const output of inner.output) own.add(output);
    const outer = [...g.node.flatMap((inner) => [...reads(inner)]), ...g.output.map(({ name }) => name)];
    for (const name of outer) if (!own.has(name)) names.add(name);
  }
  return names;
}

/** A name nobody makes, else a cycle. */
function stuck(waiting: ReadonlyMap<string, readonly Waiting[]>, nodes: readonly NodeProto[]): Fault {
  const made = new Set(nodes.flatMap(({ output }) => output));
  for (const [name, [first]] of waiting) {
    if (made.has(name)) continue;
    const who = `${first?.node.opType} "${first?.node.name || first?.node.output[0]}"`;
    return new Fault("bad-input", `${who}: input ${name}`, {
      expected: "a value that exists",
      got: "nobody makes it",
    });
  }
  const names = [...waiting.keys()].slice(0, 3).join(", ");
  return new Fault("bad-input", "graph", { expected: "no cycles", got: `a cycle through ${names}` });
}
