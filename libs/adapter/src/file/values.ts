import { concat } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { fromBfloat16, fromHalf, toHalf } from "@tutti/graph/half";
import { sizeOf } from "@tutti/graph/ir";
import type { ExternalData } from "@tutti/graph/onnx/tensor";
import { BFLOAT16, FLOAT, FLOAT16, type StoredTensor } from "./map.ts";

/** A model file, and the files beside it that changed, by the location that the model names. */
export type Files = { readonly model: Uint8Array; readonly external: ReadonlyMap<string, Uint8Array> };

/** How the values of a type are held: bytes each, and both ways. */
type Form = {
  readonly name: string;
  readonly width: number;
  read(bytes: Uint8Array): Float64Array;
  round(values: Float64Array): Float32Array | Uint16Array;
};

const halves = (bytes: Uint8Array) => new Uint16Array(bytes.slice().buffer);

/** By TensorProto.DataType: the types that can be overwritten in place. */
const FORMS: Readonly<Record<number, Form>> = {
  [FLOAT]: {
    name: "float32",
    width: 4,
    read: (bytes) => new Float64Array(new Float32Array(bytes.slice().buffer)),
    round: (values) => new Float32Array(values),
  },
  [FLOAT16]: {
    name: "float16",
    width: 2,
    read: (bytes) => Float64Array.from(halves(bytes), fromHalf),
    round: (values) => Uint16Array.from(values, toHalf),
  },
  [BFLOAT16]: {
    name: "bfloat16",
    width: 2,
    read: (bytes) => Float64Array.from(halves(bytes), fromBfloat16),
    round: (values) => Uint16Array.from(values, toBfloat16),
  },
};

/** The values of a model's tensors: read from the files as they came, written to copies of them. */
export class Values {
  readonly #bytes: Uint8Array;
  readonly #given: ExternalData | undefined;
  readonly #model: Uint8Array;
  readonly #changed = new Map<string, Uint8Array>();

  constructor(bytes: Uint8Array, external: ExternalData | undefined) {
    this.#bytes = bytes;
    this.#given = external;
    this.#model = new Uint8Array(bytes);
  }

  /** What was written, in files of the same lengths. */
  get files(): Files {
    return { model: this.#model, external: this.#changed };
  }

  /**
   * Values in the file's order.
   * @throws Fault("unsupported") for a type or a form that cannot be overwritten.
   */
  read(stored: StoredTensor, what: string): Float64Array {
    const { form, bytes } = this.#found(stored, what);
    return form.read(bytes);
  }

  /** Throws what `read` would. */
  check(stored: StoredTensor, what: string): void {
    this.#found(stored, what);
  }

  #found(stored: StoredTensor, what: string): { readonly form: Form; readonly bytes: Uint8Array } {
    const form = FORMS[stored.dataType];
    const { external, data } = stored;
    demand(!external || this.#given, () => {
      const todo = "Give `external`, or attach the adapter beside the base";
      const expected = "values in the file itself, or the file that holds them";
      return new Fault("unsupported", what, {
        expected,
        got: `external data in ${external?.location}`,
        todo,
      });
    });
    const bytes = external
      ? this.#outside(external, what)
      : concat(...data.map(({ start, end }) => this.#bytes.subarray(start, end)));
    const todo = "Attach the adapter beside the base instead of merging it";
    demand(form && bytes.length === form.width * sizeOf(stored.shape), () => {
      const expected = "float32, float16 or bfloat16 values, raw or in float_data";
      const got = `ONNX data type ${stored.dataType}, ${bytes.length} bytes`;
      return new Fault("unsupported", what, { expected, got, todo });
    });
    return { form, bytes };
  }

  /** The reverse of `read`; values that did not change round to the bits they came from. */
  write(stored: StoredTensor, values: Float64Array): void {
    const rounded = FORMS[stored.dataType]!.round(values);
    const bytes = new Uint8Array(rounded.buffer);
    if (stored.external) {
      this.#copy(stored.external.location).set(bytes, stored.external.offset);
      return;
    }
    let at = 0;
    for (const { start, end } of stored.data) {
      this.#model.set(bytes.subarray(at, at + end - start), start);
      at += end - start;
    }
  }

  #outside({ location, offset, length }: NonNullable<StoredTensor["external"]>, what: string): Uint8Array {
    const file = this.#given!(location);
    const end = length === undefined ? file.length : offset + length;
    demand(end <= file.length && offset <= end, () => {
      const got = `bytes ${offset}..${end}`;
      return new Fault("bad-input", what, {
        expected: `within the ${file.length} bytes of ${location}`,
        got,
      });
    });
    return file.subarray(offset, end);
  }

  #copy(location: string): Uint8Array {
    const copy = this.#changed.get(location) ?? new Uint8Array(this.#given!(location));
    this.#changed.set(location, copy);
    return copy;
  }
}

/** The values as they come back from the file's type. */
export function rounded(dataType: number, values: Float64Array): { name: string; values: Float64Array } {
  const form = FORMS[dataType]!;
  return { name: form.name, values: form.read(new Uint8Array(form.round(values).buffer)) };
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The bfloat16 bits nearest to `value`, ties to even; by way of float32, whose upper half they are. */
function toBfloat16(value: number): number {
  float[0] = value;
  const word = bits[0]!;
  if (Number.isNaN(value)) return 0x7fc0;
  return ((word + 0x7fff + ((word >>> 16) & 1)) >>> 16) & 0xffff;
}
