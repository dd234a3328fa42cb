import type { Data } from "@tutti/client-sdk/examples";
import { examplesFromArrays } from "@tutti/client-sdk/examples";
import type { Runtime } from "@tutti/client-sdk/model";
import { type Engine, float32, sizeOf, type Tensor } from "@tutti/graph/ir";
import { int64 } from "@tutti/graph/tensor";

/** Columns of the model that nobody trains, and its classes. */
export const [FEATURES, CLASSES] = [4, 3];

/**
 * An engine that computes nothing: gradients and losses are made up from a device's name. So a round costs
 * what Tutti itself costs, and the same device has the same words in every life of its coordinator.
 */
export function noopEngine(device: string): Engine {
  const salt = [...device].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  return {
    name: "none",
    async load({ outputs, statics }) {
      const made = new Map(
        outputs.map(({ name }): [string, Tensor] => [
          name,
          madeUp(name, statics.get(name)?.shape ?? [], salt),
        ]),
      );
      return { step: async () => made, dispose: async () => {} };
    },
  };
}

function madeUp(name: string, shape: readonly number[], salt: number): Tensor {
  const data = new Float32Array(sizeOf(shape));
  for (let i = 0; i < data.length; i++) data[i] = name.startsWith("grad.") ? wave(i + salt) : 1;
  return float32(shape, data);
}

/** Somewhere between -0.5 and 0.5. */
function wave(i: number): number {
  return ((i * 7919) % 101) / 101 - 0.5;
}

/** A runtime that answers with a finite number, whatever the model. */
export const noopRuntime: Runtime = {
  open: async () => ({
    run: async () => new Map([["y", float32([1], new Float32Array(1))]]),
    release: async () => {},
  }),
};

/** A few rows; nobody looks at them. */
export const noopData: Data = () => {
  const count = 8;
  const inputs = { x: float32([count, FEATURES], new Float32Array(count * FEATURES)) };
  const examples = examplesFromArrays({ inputs, label: int64(Array.from({ length: count }, () => 0)) });
  return { train: examples, heldOut: examples };
};
