import { demand } from "@tutti/foundation/check";
import { Fault, type FaultCode } from "@tutti/foundation/fault";
import { nearest } from "@tutti/foundation/nearest";

/**
 * Reads a JSON object field by field; `done` refuses what nobody asked for, so a misspelt rule is an error.
 */
export type Fields = {
  string(name: string): string;
  boolean(name: string): boolean;
  positive(name: string): number;
  integer(name: string, low: number, high: number): number;
  literal<T extends string | number>(name: string, value: T): T;
  strings(name: string): string[];
  object(name: string): Fields;
  objects(name: string): Fields[];
  /** null where the field is absent or null, else what `read` makes of it. */
  optional<T>(name: string, read: () => T): T | null;
  /** null where the field is null, else what `read` makes of it; absent, it is an error. */
  nullable<T>(name: string, read: () => T): T | null;
  /** Refuses other names, before any is missed: a misspelt field is both, and its own name says more. */
  knows(names: readonly string[]): void;
  done(): void;
};

/** The fields of a JSON text. @throws Fault(code) naming file and field, what was expected and what came. */
export function fieldsOf(file: string, text: string, code: FaultCode = "bad-input"): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Fault(code, file, { expected: "JSON", got: "other text", cause });
  }
  return reader(file, value, code);
}

function reader(what: string, value: unknown, code: FaultCode): Fields {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  demand(isObject, () => new Fault(code, what, { expected: "an object", got: show(value) }));
  const record = value as Readonly<Record<string, unknown>>;
  const asked = new Set<string>();
  function take<T>(name: string, expected: string, fits: (value: unknown) => value is T): T {
    asked.add(name);
    const found = Object.hasOwn(record, name) ? record[name] : undefined;
    if (fits(found)) return found;
    throw new Fault(code, `${what}, field ${name}`, { expected, got: show(found) });
  }
  function knows(known: readonly string[]): void {
    const unknown = Object.keys(record).filter((name) => !known.includes(name));
    if (unknown.length === 0) return;
    const meant = nearest(unknown[0]!, known);
    const todo = meant ? `Did you mean ${meant}?` : `Known here: ${known.join(", ")}`;
    throw new Fault(code, what, { expected: "known fields", got: unknown.join(", "), todo });
  }
  return {
    knows,
    string: (name) => take(name, "a string", isString),
    boolean: (name) => take(name, "true or false", (x) => typeof x === "boolean"),
    positive: (name) =>
      take(name, "a number above 0", (x): x is number => Number.isFinite(x) && Number(x) > 0),
    integer: (name, low, high) =>
      take(name, `an integer in ${low}..${high}`, (x): x is number => isInteger(x) && x >= low && x <= high),
    literal: <T extends string | number>(name: string, only: T) =>
      take(name, `${only}`, (x): x is T => x === only),
    strings: (name) =>
      take(name, "a list of strings", (x): x is string[] => Array.isArray(x) && x.every(isString)),
    object: (name) => reader(`${what}, field ${name}`, take(name, "an object", isAny), code),
    objects: (name) =>
      take(name, "a list", (x): x is unknown[] => Array.isArray(x)).map((item, at) =>
        reader(`${what}, field ${name}[${at}]`, item, code),
      ),
    optional: (name, read) => {
      asked.add(name);
      return (record[name] ?? null) === null ? null : read();
    },
    nullable: (name, read) => {
      take(name, "a value, or null", (x): x is unknown => x !== undefined);
      return record[name] === null ? null : read();
    },
    done: () => knows([...asked]),
  };
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

function isInteger(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isAny(value: unknown): value is unknown {
  return value !== undefined;
}

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  return typeof value === "object"
    ? value === null
      ? "null"
      : Array.isArray(value)
        ? "a list"
        : "an object"
    : JSON.stringify(value);
}
