import { canonical, concat, equalBytes } from "@tutti/foundation/bytes";
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

/** The state back; a Fault where the bytes are not `slots` vectors of one length. */
export function loadState(bytes: Uint8Array, slots: number): State {
  const start = header(slots, 0).length;
  const length = slots === 0 ? 0 : Math.max(0, Math.floor((bytes.length - start) / (4 * slots)));
  const front = header(slots, length);
  if (bytes.length !== start + 4 * slots * length || !equalBytes(bytes.subarray(0, start), front)) {
    throw new Fault("storage", "server state", {
      expected: `${slots} vectors`,
      got: `${bytes.length} bytes that are not`,
    });
  }
  const values = new DataView(bytes.buffer, bytes.byteOffset + start);
  return Array.from({ length: slots }, (_, slot) => {
    const vector = new Float32Array(length);
    for (let i = 0; i < length; i++) vector[i] = values.getFloat32(4 * (slot * length + i), true);
    return vector;
  });
}

/** A rule that can put its state into the coordinator's store and take it back. */
export type StoredRule = Rule & { save(held: State): Uint8Array; load(bytes: Uint8Array): State };

export function stored(rule: Rule): StoredRule {
  return { ...rule, save: saveState, load: (bytes) => loadState(bytes, rule.begin(0).length) };
}

function header(slots: number, length: number): Uint8Array {
  return canonical("tutti/server-state/v1", slots, length);
}
