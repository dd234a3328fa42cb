import { alternatives, membersOf } from "@tutti/plan/meant";
import * as v from "valibot";
import { schema } from "../../src/folder/schema.ts";

/** One field of tutti.json, as docs/operating.md lists it. */
export type Field = {
  /** "limits.uploadBytes". */
  readonly path: string;
  readonly kind: string;
  /** JSON; "required", or "" where absent means something of its own. */
  readonly fallback: string;
  readonly says: string;
};

/** Every field of tutti.json in the file's order, sections before what is in them. */
export function fields(): Field[] {
  return below("", schema);
}

function below(path: string, section: v.GenericSchema): Field[] {
  return Object.entries(membersOf(section)).flatMap(([name, entry]) => {
    const at = path ? `${path}.${name}` : name;
    const inner = alternatives(entry);
    const own = { path: at, kind: kindOf(inner), fallback: fallbackOf(entry), says: saysOf(entry) };
    // The engines of a store are one field, told together.
    const children = inner.flatMap((one) => below(at, one));
    return [own, ...merged(children)];
  });
}

function merged(children: readonly Field[]): Field[] {
  const found = new Map<string, Field>();
  for (const child of children) {
    const before = found.get(child.path);
    const both = before && { kind: `${before.kind} | ${child.kind}`, says: `${before.says} ${child.says}` };
    found.set(child.path, { ...child, ...both });
  }
  return [...found.values()];
}

function saysOf(entry: v.GenericSchema): string {
  const { wrapped } = entry as { wrapped?: v.GenericSchema };
  return (wrapped ? saysOf(wrapped) : v.getDescription(entry)) ?? "";
}

function fallbackOf(entry: v.GenericSchema): string {
  if (entry.type === "exact_optional") return "";
  if (entry.type !== "optional") return "required";
  return JSON.stringify((entry as unknown as { default: unknown }).default);
}

type Step = { type: string; requirement?: unknown; pipe?: readonly Step[] };
type Parts = {
  pipe?: readonly Step[];
  options?: readonly unknown[];
  literal?: unknown;
};

function kindOf(inner: readonly v.GenericSchema[]): string {
  return [...new Set(inner.map(oneKind))].join(" | ");
}

function oneKind(one: v.GenericSchema): string {
  const { options = [], literal } = one as unknown as Parts;
  const steps = stepsOf(one as unknown as Parts);
  const bound = (type: string) => steps.find((step) => step.type === type)?.requirement;
  switch (one.type) {
    case "literal":
      return JSON.stringify(literal);
    case "picklist":
      return options.map((it) => JSON.stringify(it)).join(" | ");
    case "number":
      return `integer ${bound("min_value")}..${bound("max_value")}`;
    case "string":
      return "text";
    case "array":
      return "list of text";
    default:
      return "section";
  }
}

/** A pipe's steps, and those of pipes in it. */
function stepsOf(one: { pipe?: readonly Step[] }): readonly Step[] {
  return (one.pipe ?? []).flatMap((step) => [step, ...stepsOf(step)]);
}
