import { InferenceSession, Tensor } from "@tutti/client-sdk/node/onnxruntime";
import { type Bird, SPECIES } from "./birds.ts";

/** Share of birds whose species the ONNX model names, in onnxruntime. */
export async function accuracyOf(model: Uint8Array, birds: readonly Bird[]): Promise<number> {
  const session = await InferenceSession.create(model);
  const measurements = Float32Array.from(birds.flatMap((bird) => bird.features));
  const { species } = await session.run({
    measurements: new Tensor("float32", measurements, [birds.length, 4]),
  });
  const logits = species?.data as Float32Array;
  const right = birds.filter(
    (bird, row) => SPECIES[largest(logits.subarray(row * 3, row * 3 + 3))] === bird.species,
  );
  await session.release();
  return right.length / birds.length;
}

function largest(values: Float32Array): number {
  return values.reduce((best, value, at) => (value > values[best]! ? at : best), 0);
}
