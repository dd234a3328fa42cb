import { float32 } from "@tutti/graph/ir";
import type { Examples } from "@tutti/train/batches";
import { type Bird, SPECIES } from "./birds.ts";

/** Birds as the trainer takes them: any rows at a time, measurements and label. */
export function examplesOf(birds: readonly Bird[]): Examples {
  return {
    count: birds.length,
    take: (rows) => {
      const taken = rows.map((row) => birds[row]!);
      const features = Float32Array.from(taken.flatMap((bird) => bird.features));
      const label = BigInt64Array.from(taken, (bird) => BigInt(SPECIES.indexOf(bird.species)));
      return new Map([
        ["measurements", float32([rows.length, 4], features)],
        ["label", { dtype: "int64" as const, shape: [rows.length], data: label }],
      ]);
    },
  };
}
