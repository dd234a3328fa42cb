import { fromUtf8 } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/** A scalar of a GGUF file; 64-bit integers are bigints, so that none is rounded. */
export type Field = number | bigint | boolean | string;

const WIDTHS = {
  uint8: 1,
  int8: 1,
  bool: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
  float32: 4,
  uint64: 8,
  int64: 8,
  float64: 8,
} as const;

type Fixed = keyof typeof WIDTHS;

/** Little-endian fields one after another; every step is held against the bytes that are left. */
export class Reader {
  readonly #what: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(what: string, bytes: Uint8Array) {
    this.#what = what;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get at(): number {
    return this.#at;
  }

  widthOf(type: Fixed): number {
    return WIDTHS[type];
  }

  /** Moves past `length` bytes and returns where they begin. */
  skip(length: number, what: string): number {
    const left = this.#bytes.length - this.#at;
    demand(length <= left, () => this.#bad(what, `${length} bytes`, `${left} left`));
    this.#at += length;
    return this.#at - length;
  }

  /** A view of everything from `from` to here. */
  since(from: number): Uint8Array {
    return this.#bytes.subarray(from, this.#at);
  }

  uint32(what: string): number {
    return this.#view.getUint32(this.skip(4, what), true);
  }

  /** A u64 that counts something, at most `most`. */
  count(what: string, most: number): number {
    const value = this.#view.getBigUint64(this.skip(8, what), true);
    demand(value <= BigInt(most), () => this.#bad(what, `at most ${most}`, `${value}`));
    return Number(value);
  }

  string(what: string): string {
    const length = this.count(`length of ${what}`, this.#bytes.length);
    const from = this.skip(length, what);
    return fromUtf8(this.#bytes.subarray(from, from + length), `${this.#what} ${what}`);
  }

  field(type: Fixed | "string", what: string): Field {
    if (type === "string") return this.string(what);
    const at = this.skip(WIDTHS[type], what);
    switch (type) {
      case "uint8":
        return this.#view.getUint8(at);
      case "int8":
        return this.#view.getInt8(at);
      case "uint16":
        return this.#view.getUint16(at, true);
      case "int16":
        return this.#view.getInt16(at, true);
      case "uint32":
        return this.#view.getUint32(at, true);
      case "int32":
        return this.#view.getInt32(at, true);
      case "float32":
        return this.#view.getFloat32(at, true);
      case "float64":
        return this.#view.getFloat64(at, true);
      case "uint64":
        return this.#view.getBigUint64(at, true);
      case "int64":
        return this.#view.getBigInt64(at, true);
      case "bool": {
        const value = this.#view.getUint8(at);
        demand(value <= 1, () => this.#bad(what, "0 or 1", `${value}`));
        return value === 1;
      }
    }
  }

  #bad(what: string, expected: string, got: string): Fault {
    return new Fault("bad-input", `${this.#what} ${what}`, { expected, got });
  }
}
