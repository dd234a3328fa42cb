import { nearest } from "@tutti/foundation/nearest";
import type * as v from "valibot";

/** What to do about an unknown field of `schema`: the known one that is probably meant, or all there are. */
export function meantBy(schema: v.GenericSchema, issue: v.BaseIssue<unknown>): string {
  const names = fieldsBeside(schema, issue);
  const meant = nearest(String(issue.path?.at(-1)?.key), names);
  return meant ? `Did you mean ${meant}?` : `Known here: ${names.join(", ")}`;
}

/** The fields that the object of an unknown one knows: the schema is walked the way of the issue. */
function fieldsBeside(schema: v.GenericSchema, issue: v.BaseIssue<unknown>): string[] {
  let here: v.GenericSchema[] = alternatives(schema);
  for (const { key } of issue.path?.slice(0, -1) ?? [])
    here = here.flatMap((one) => membersOf(one)[String(key)] ?? []).flatMap(alternatives);
  return [...new Set(here.flatMap((one) => Object.keys(membersOf(one))))];
}

type Wrapping = { wrapped?: v.GenericSchema; options?: readonly v.GenericSchema[] };

/** What stands behind "optional", and each of a variant. */
export function alternatives(one: v.GenericSchema): v.GenericSchema[] {
  const { wrapped, options } = one as Wrapping;
  if (wrapped) return alternatives(wrapped);
  return one.type === "variant" && options ? options.flatMap(alternatives) : [one];
}

export function membersOf(one: v.GenericSchema): Record<string, v.GenericSchema> {
  return (one as { entries?: Record<string, v.GenericSchema> }).entries ?? {};
}
