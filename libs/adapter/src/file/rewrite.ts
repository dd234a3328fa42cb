import { base64, concat, fromBase64, fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { type Span, wireBytes, wireFields } from "@tutti/wire/wire-format";
import { type FileMap, GRAPH, MODEL, NODE } from "./map.ts";
import { type Edit, patched, reversed } from "./patch.ts";

/** What happens to one node of the file: names exchanged by index, encoded NodeProtos set around it. */
export type NodeChange = {
  readonly inputs: Map<number, string>;
  readonly outputs: Map<number, string>;
  readonly before: Uint8Array[];
  readonly after: Uint8Array[];
};

/** Changes to a model file that leave the bytes of every tensor, and of all else not named here. */
export type Changes = {
  /** By a node's first output. */
  readonly nodes: ReadonlyMap<string, NodeChange>;
  /** Encoded TensorProtos and ValueInfoProtos for the end of the graph. */
  readonly initializers?: readonly Uint8Array[];
  readonly inputs?: readonly Uint8Array[];
};

/** Where a rewritten file says how to take the changes back: a metadata property, the file's last field. */
const RECORD = "tutti.undo";
const METADATA = { model: 14, key: 1, value: 2 } as const;

/** What a rewritten file tells of itself. `kind` says what was done to the base. */
export type RewriteRecord = {
  readonly kind: "attached" | "merged";
  readonly baseSha256: string;
  readonly undo: readonly Edit[];
};

/**
 * The file with the changes, and a record at its end from which `restored` makes the exact bytes that were
 * there before. The record holds what was taken out (names and lengths, some tens of bytes per change).
 */
export function rewritten(
  bytes: Uint8Array,
  map: FileMap,
  { changes, ...about }: Pick<RewriteRecord, "kind" | "baseSha256"> & { readonly changes: Changes },
): Uint8Array {
  const edits = editsOf(map, changes);
  const undo = reversed(bytes, edits).map(({ start, end, bytes: was }) => [start, end, base64(was)]);
  const text = utf8(JSON.stringify({ ...about, undo }));
  const entry = [wireBytes(METADATA.key, utf8(RECORD)), wireBytes(METADATA.value, text)];
  const record = wireBytes(METADATA.model, concat(...entry));
  return patched(bytes, [...edits, { start: bytes.length, end: bytes.length, bytes: record }]);
}

/**
 * The record of the last rewrite, and the bytes before it; undefined where there is none.
 * @throws Fault("bad-message") for a record that does not fit the file.
 */
export function recordOf(bytes: Uint8Array): { record: RewriteRecord; restored(): Uint8Array } | undefined {
  const last = [...wireFields(bytes)].at(-1);
  if (last?.number !== METADATA.model) return undefined;
  const parts = new Map([...wireFields(bytes, last.content)].map((field) => [field.number, field.content]));
  const part = (number: number) => {
    const span = parts.get(number);
    return span ? fromUtf8(bytes.subarray(span.start, span.end), "metadata") : "";
  };
  if (part(METADATA.key) !== RECORD) return undefined;
  const record = parsed(part(METADATA.value), last.start);
  return { record, restored: () => patched(bytes.subarray(0, last.start), record.undo) };
}

/**
 * The base that an attached (or, weights apart, a merged) file was made from.
 * @throws Fault("refused") when the file was changed since, so that the base would not come out.
 */
export function checkedBase({
  record,
  restored,
}: {
  record: RewriteRecord;
  restored(): Uint8Array;
}): Uint8Array {
  const base = restored();
  const got = sha256Hex(base);
  if (got === record.baseSha256) return base;
  const todo = "The file was changed after the adapter was attached: take the base from where it came from";
  throw new Fault("refused", "base in the file", { expected: `SHA-256 ${record.baseSha256}`, got, todo });
}

function parsed(text: string, limit: number): RewriteRecord {
  const bad = (cause?: unknown) =>
    new Fault("bad-message", `metadata ${RECORD}`, { expected: "a record of what was changed", cause });
  let found: { kind?: unknown; baseSha256?: unknown; undo?: unknown };
  try {
    found = JSON.parse(text);
  } catch (cause) {
    throw bad(cause);
  }
  const { kind, baseSha256, undo } = found ?? {};
  if ((kind !== "attached" && kind !== "merged") || typeof baseSha256 !== "string" || !Array.isArray(undo))
    throw bad();
  let at = 0;
  const edits = undo.map((edit: unknown): Edit => {
    const [start, end, was] = Array.isArray(edit) ? edit : [];
    const inside = Number.isInteger(start) && Number.isInteger(end) && at <= start && start <= end;
    if (!inside || end > limit || typeof was !== "string") throw bad();
    at = end;
    return { start, end, bytes: fromBase64(was, `metadata ${RECORD}`) };
  });
  return { kind, baseSha256, undo: edits };
}

/** Flat edits: a message that grows gets a new length in front, its content is edited where it lies. */
function editsOf({ graph, nodes }: FileMap, changes: Changes): readonly Edit[] {
  const inner = [...changes.nodes].flatMap(([output, change]) => {
    const node = nodes.get(output);
    assert(node, `the node of ${output} is in the file`);
    const names = [
      ...renamed(NODE.input, node.inputs, change.inputs),
      ...renamed(NODE.output, node.outputs, change.outputs),
    ];
    const around = [
      { start: node.start, end: node.start, bytes: framed(change.before) },
      { start: node.end, end: node.end, bytes: framed(change.after) },
    ].filter((edit) => edit.bytes.length > 0);
    return [...around, ...names, ...(names.length > 0 ? [resized(GRAPH.node, node, names)] : [])];
  });
  const end = { start: graph.content.end, end: graph.content.end };
  const more = [
    ...(changes.initializers ?? []).map((tensor) => wireBytes(GRAPH.initializer, tensor)),
    ...(changes.inputs ?? []).map((input) => wireBytes(GRAPH.input, input)),
  ];
  const all = [...inner, { ...end, bytes: concat(...more) }];
  return [...all, resized(MODEL.graph, graph, all)];
}

function renamed(field: number, spans: readonly Span[], names: ReadonlyMap<number, string>): Edit[] {
  return [...names].map(([index, name]) => ({ ...spans[index]!, bytes: wireBytes(field, utf8(name)) }));
}

/** The tag and length of a message, exchanged for those of the message with `edits` in it. */
function resized(field: number, whole: Span & { readonly content: Span }, edits: readonly Edit[]): Edit {
  const { start, content } = whole;
  const grown = edits.reduce((sum, edit) => sum + edit.bytes.length - (edit.end - edit.start), 0);
  const length = content.end - content.start + grown;
  return { start, end: content.start, bytes: wireHeader(field, length) };
}

/** What stands before a length-delimited field's content. */
function wireHeader(field: number, length: number): Uint8Array {
  const empty = wireBytes(field, new Uint8Array(0));
  const tag = empty.subarray(0, empty.length - 1);
  const groups: number[] = [];
  for (let rest = length; groups.length === 0 || rest > 0; rest = Math.floor(rest / 128))
    groups.push((rest % 128) + (rest >= 128 ? 128 : 0));
  return concat(tag, Uint8Array.from(groups));
}

function framed(nodes: readonly Uint8Array[]): Uint8Array {
  return concat(...nodes.map((node) => wireBytes(GRAPH.node, node)));
}
