import { Fault } from "@tutti/foundation/fault";

/** Facts about what happened: never a row, a key or a vector. */
export type Detail = Readonly<Record<string, string | number | boolean>>;

/** What is to be written down: who did what to what. */
export type Note = {
  /** A device, an owner, or the coordinator itself. */
  readonly actor: string;
  /** "device.revoked". */
  readonly what: string;
  /** A digest or a name. */
  readonly subject: string;
  readonly detail?: Detail;
};

/** A note in its place. */
export type Entry = Required<Note> & {
  /** From 0, without a gap. */
  readonly seq: number;
  /** The wall clock of whoever wrote it, ISO 8601. */
  readonly at: string;
  /** Hex SHA-256 of the entry before it. */
  readonly previous: string;
};

/** Bounds on one entry, so that a log grows by what happens and not by what somebody says. */
const MAX_TEXT_CHARS = 200;
const MAX_DETAILS = 16;
export const MAX_LINE_CHARS = 16 << 10;

/** A note whose texts fit an entry; what is longer is cut. */
export function bounded({ actor, what, subject, detail = {} }: Note): Required<Note> {
  const cut = (text: string) => text.slice(0, MAX_TEXT_CHARS);
  const facts = Object.entries(detail).slice(0, MAX_DETAILS);
  return {
    actor: cut(actor),
    what: cut(what),
    subject: cut(subject),
    detail: Object.fromEntries(
      facts.map(([name, value]) => [cut(name), typeof value === "string" ? cut(value) : value]),
    ),
  };
}

const TEXTS = ["at", "actor", "what", "subject", "previous"] as const;

/** An entry from its JSON, whose hash was found right: it is as it was written. */
export function parseEntry(body: string): Entry {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (cause) {
    throw new Fault("refused", "audit entry", { expected: "JSON", got: "other text", cause });
  }
  const entry = value as Entry;
  const whole =
    typeof value === "object" &&
    value !== null &&
    Number.isInteger(entry.seq) &&
    TEXTS.every((name) => typeof entry[name] === "string") &&
    typeof entry.detail === "object" &&
    entry.detail !== null;
  if (!whole) throw new Fault("refused", "audit entry", { expected: "every field", got: "another form" });
  return entry;
}
