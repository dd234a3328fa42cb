import { onnxruntimeNode } from "@tutti/client-sdk/node/runtime";
import type { Tensor } from "@tutti/graph/ir";
import type { Examples } from "@tutti/train/batches";

/** Right answers over rows, with the plain ONNX file in onnxruntime: no code of training has a say. */
export async function rightOf(
  model: Uint8Array,
  examples: Examples,
  isRight: (output: Tensor, label: Tensor, row: number) => boolean,
): Promise<number> {
  const running = await onnxruntimeNode().open(model);
  try {
    const taken = await examples.take(Array.from({ length: examples.count }, (_, row) => row));
    const label = taken.get("label")!;
    const outputs = await running.run(new Map([...taken].filter(([name]) => name !== "label")));
    const [output] = outputs.values();
    return Array.from({ length: examples.count }, (_, row) => isRight(output!, label, row)).filter(Boolean)
      .length;
  } finally {
    await running.release();
  }
}

/** Examples one after another as one: what central training sees. */
export function joined(parts: readonly Examples[]): Examples {
  const places = parts.flatMap((part, at) => Array.from({ length: part.count }, (_, row) => ({ at, row })));
  return {
    count: places.length,
    take: async (rows) => {
      const single = await Promise.all(rows.map((row) => parts[places[row]!.at]!.take([places[row]!.row])));
      return new Map(
        [...single[0]!.keys()].map((name) => [name, stacked(single.map((one) => one.get(name)!))]),
      );
    },
  };
}

function stacked(rows: readonly Tensor[]): Tensor {
  const { dtype, shape, data } = rows[0]!;
  const made = data.constructor as new (values: Iterable<number | bigint>) => Float32Array;
  const values = rows.flatMap((row) => [...(row.data as Iterable<number | bigint>)]);
  return { dtype, shape: [rows.length, ...shape.slice(1)], data: new made(values) };
}
