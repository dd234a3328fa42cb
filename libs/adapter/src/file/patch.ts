import { concat } from "@tutti/foundation/bytes";
import { assert } from "@tutti/foundation/check";
import type { Span } from "@tutti/wire/wire-format";

/** Other bytes in place of a stretch; an empty stretch is an insertion. */
export type Edit = Span & { readonly bytes: Uint8Array };

/** `bytes` with some stretches exchanged. Edits may come in any order but do not overlap. */
export function patched(bytes: Uint8Array, edits: readonly Edit[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const edit of inOrder(edits)) {
    assert(at <= edit.start && edit.start <= edit.end && edit.end <= bytes.length, "edits lie apart, inside");
    parts.push(bytes.subarray(at, edit.start), edit.bytes);
    at = edit.end;
  }
  return concat(...parts, bytes.subarray(at));
}

/** The edits that take the patched bytes back: `patched(patched(b, e), reversed(b, e))` is b. */
export function reversed(bytes: Uint8Array, edits: readonly Edit[]): readonly Edit[] {
  let grown = 0;
  return inOrder(edits).map(({ start, end, bytes: put }) => {
    const from = start + grown;
    grown += put.length - (end - start);
    return { start: from, end: from + put.length, bytes: bytes.slice(start, end) };
  });
}

/** Insertions at one place keep the order they came in, and come before an exchange that begins there. */
function inOrder(edits: readonly Edit[]): readonly Edit[] {
  return edits.toSorted((a, b) => a.start - b.start || a.end - b.end);
}
