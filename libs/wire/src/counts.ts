import type { DescMessage } from "@bufbuild/protobuf";
import { Fault } from "@tutti/foundation/fault";
import { type Span, wireFields } from "./wire-format.ts";

/** Most elements of a repeated field: of all, and by name of those that differ. */
export type Counts = { readonly most: number; readonly of?: Readonly<Record<string, number>> };

/**
 * Looks at a message's bytes before anything is built from them, since two bytes may stand for an object of a
 * hundred: no repeated field of `schema`, at any depth, has more elements than `counts` says, and no other
 * message field comes twice (a decoder would merge them). Packed numbers and fields the schema does not know
 * cost what their bytes cost, and are passed over. For schemas that do not contain themselves.
 * @throws Fault("bad-message") naming the field.
 */
export function checkCounts(schema: DescMessage, bytes: Uint8Array, counts: Counts, span?: Span): void {
  const fields = new Map(schema.fields.map((field) => [field.number, field]));
  const seen = new Map<number, number>();
  for (const { number, kind, content } of wireFields(bytes, span)) {
    const field = fields.get(number);
    if (field === undefined || field.fieldKind === "scalar" || field.fieldKind === "enum") continue;
    const count = (seen.get(number) ?? 0) + 1;
    seen.set(number, count);
    const most = field.fieldKind === "message" ? 1 : (counts.of?.[field.name] ?? counts.most);
    if (count > most) {
      const what = `${schema.typeName}.${field.name}`;
      throw new Fault("bad-message", what, { expected: `at most ${most}`, got: "more" });
    }
    if (kind === "bytes" && field.message !== undefined) checkCounts(field.message, bytes, counts, content);
  }
}
