import { canonical, compareBytes, concat } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import type { Rule, State } from "./types.ts";

/**
 * A state as bytes, for the coordinator's store: a header with the number of vectors and their length, then
 * little-endian float32. The bits come back as they were.
 */
export function saveState(held: State): Uint8Array {
  const length = held[0]?.length ?? 0;
  const values = new DataView(new ArrayBuffer(4 * held.length * length));
  held.forEach((vector, slot) => {
    vector.forEach((value, i) => {
      values.setFloat32(4 * (slot * length + i), value, true);
    });
  });
  return concat(header(held.length, length), new Uint8Array(values.buffer));
}

/** The state back; a Fault where the bytes are not one of `rule` over `length` coordinates. */
export function loadState(bytes: Uint8Array, { rule, length }: { rule: Rule; length: number }): State {
  const slots = rule.begin(0).length;
  const front = header(slots, slots === 0 ? 0 : length);
  const expected = front.length + 4 * slots * length;
  if (bytes.length !== expected || compareBytes(bytes.subarray(0, front.length), front) !== 0) {
    throw new Fault("storage", "server state", {
      expected: `${expected} bytes: ${slots} vectors of ${length}`,
      got: `${bytes.length} bytes of another state`,
    });
  }
  const values = new DataView(bytes.buffer, bytes.byteOffset + front.length);
  return Array.from({ length: slots }, (_, slot) => {
    const vector = new Float32Array(length);
    for (let i = 0; i < length; i++) vector[i] = values.getFloat32(4 * (slot * length + i), true);
    return vector;
  });
}

function header(slots: number, length: number): Uint8Array {
  return canonical("tutti/server-state/v1", slots, length);
}
