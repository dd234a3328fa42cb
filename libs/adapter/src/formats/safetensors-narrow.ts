import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { toHalf } from "@tutti/graph/half";
import type { FloatTensor } from "./safetensors.ts";

/**
 * Little-endian bytes of a tensor in a file's type. Apart from safetensors.ts, which the coordinator reads
 * with and which stays free of graph code.
 * @throws Fault("bad-input") for a value that binary16 would turn into an infinity.
 */
export function narrowed(
  dtype: "F32" | "F16",
  { data }: Pick<FloatTensor, "data">,
  name: string,
): Uint8Array {
  if (dtype === "F32") return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const halves = Uint16Array.from(data, toHalf);
  const lost = data.findIndex((value, i) => Number.isFinite(value) && (halves[i]! & 0x7fff) === 0x7c00);
  demand(lost < 0, () => {
    return new Fault("bad-input", `float16 values of ${name}`, {
      expected: "at most 65504",
      got: `${data[lost]}`,
      todo: "Write float32",
    });
  });
  return new Uint8Array(halves.buffer);
}
