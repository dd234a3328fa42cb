import { fromUtf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";

/** Door checks for JSON from others: a value and its path, so that every Fault names the field. */
export type Field = { readonly path: string; readonly value: unknown };

/** JSON text (UTF-8) as a field with no path but `what`. */
export function jsonField(what: string, bytes: Uint8Array): Field {
  try {
    return { path: what, value: JSON.parse(fromUtf8(bytes, what)) };
  } catch (cause) {
    throw new Fault("bad-message", what, { expected: "JSON in UTF-8", got: "other bytes", cause });
  }
}

/** A member of an object; absent ones have the value undefined, which no check below accepts. */
export function member({ path, value }: Field, key: string): Field {
  const object = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!object) throw wrong({ path, value }, "an object");
  const own = Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
  return { path: `${path}.${key}`, value: own };
}

/** The items of a list of at most `most`. */
export function items({ path, value }: Field, most: number): Field[] {
  if (!Array.isArray(value) || value.length > most) throw wrong({ path, value }, `a list of at most ${most}`);
  return value.map((item, at) => ({ path: `${path}[${at}]`, value: item }));
}

/** A string that the whole pattern matches. */
export function text(field: Field, pattern: RegExp, meaning: string): string {
  if (typeof field.value === "string" && pattern.test(field.value)) return field.value;
  throw wrong(field, meaning);
}

export function sha256Text(field: Field): string {
  return text(field, /^[0-9a-f]{64}$/, "64 lower-case hex digits");
}

/** A UTC time since 1970 that the calendar and the day have: devices keep it as a number, and order by it. */
export function timeText(field: Field): string {
  const meaning = "a UTC time since 1970, as 2026-01-31T12:00:00Z";
  const told = text(field, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/, meaning);
  const ms = Date.parse(told);
  // 30 February is read as 2 March.
  if (ms >= 0 && new Date(ms).toISOString().startsWith(told.slice(0, 19))) return told;
  throw wrong(field, meaning);
}

export function integer(field: Field, low: number, high = Number.MAX_SAFE_INTEGER): number {
  const { value } = field;
  if (typeof value === "number" && Number.isInteger(value) && value >= low && value <= high) return value;
  throw wrong(field, `an integer in ${low}..${high}`);
}

export function positive(field: Field): number {
  if (typeof field.value === "number" && Number.isFinite(field.value) && field.value > 0) return field.value;
  throw wrong(field, "a positive number");
}

export function flag(field: Field): boolean {
  if (typeof field.value === "boolean") return field.value;
  throw wrong(field, "true or false");
}

export function exactly<T extends string | null>(field: Field, wanted: T): T {
  if (field.value === wanted) return wanted;
  throw wrong(field, JSON.stringify(wanted));
}

function wrong({ path, value }: Field, expected: string): Fault {
  const got = JSON.stringify(value) ?? "nothing";
  return new Fault("bad-message", path, { expected, got: got.length > 80 ? `${got.slice(0, 80)}…` : got });
}
