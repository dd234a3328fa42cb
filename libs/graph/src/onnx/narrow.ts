import { Fault } from "@tutti/foundation/fault";
import type { GraphProto } from "@tutti/wire/onnx";
import { narrowOf } from "./dtype.ts";

/** Operators whose result takes the type of an input, and which one: a wider type would be another result. */
const TYPED_BY: ReadonlyMap<string, number> = new Map([
  ["QuantizeLinear", 2],
  ["CastLike", 1],
]);

/**
 * Integers of 2 and 4 bits are held in 8, which says the same wherever they are read; only a node that would
 * make such values itself (levels −8…7) would make others, and is refused by name.
 */
export function refuseNarrowResults(graph: GraphProto): void {
  const constants = graph.node.flatMap(({ opType, output, attribute }) =>
    opType === "Constant" ? [{ name: output[0], dataType: attribute[0]?.t?.dataType ?? 0 }] : [],
  );
  const narrow = [...graph.initializer, ...constants].filter(({ dataType }) => narrowOf(dataType));
  const names = new Set(narrow.map(({ name }) => name));
  for (const { opType, name, input, output } of graph.node) {
    const index = TYPED_BY.get(opType);
    if (index === undefined || !names.has(input[index] ?? "")) continue;
    throw new Fault("unsupported", `${opType} "${name || output[0]}": input ${index}`, {
      expected: "a type of 8 bits or more",
      got: "an integer type of 2 or 4 bits",
    });
  }
}
