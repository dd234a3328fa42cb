import type { Ops } from "../ops.ts";
import type { Site } from "../site.ts";

/** x in pieces along an axis, from one Split; itself where there is one. */
export function cutInto(
  ops: Ops,
  x: string,
  { axis, sizes }: { axis: number; sizes: readonly number[] },
): readonly string[] {
  if (sizes.length === 1) return [x];
  const { build } = ops;
  // The sizes moved from an attribute to an input (Split, since version 13).
  const late = build.opset >= 13;
  return build.emitMany("Split", late ? [x, build.ints(sizes)] : [x], {
    outputs: sizes.length,
    attributes: late ? { axis } : { axis, split: sizes },
  });
}

/** The pieces as one along an axis; itself where there is one. */
export function joined(ops: Ops, pieces: readonly string[], axis: number): string {
  return pieces.length === 1 ? pieces[0]! : ops.op("Concat", pieces, { axis });
}

/** Conv's own attributes, as the node has them. */
export function convAttributes(at: Site) {
  const lists = ["kernel_shape", "strides", "pads", "dilations"].filter((name) =>
    at.node.attributes.has(name),
  );
  return {
    ...Object.fromEntries(lists.map((name) => [name, at.ints(name)])),
    ...{ group: at.int("group", 1), auto_pad: at.string("auto_pad", "NOTSET") },
  };
}
