import type { Clock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { EVENTS, type EventName, LEVELS, type Level } from "./events.ts";
import { redact } from "./redact.ts";
import { Repeats } from "./repeats.ts";

/** What an event is about. Bytes cannot be logged, so no key, share or vector can. */
export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

/** Where a coordinator says what happened that no caller hears of. */
export type Log = {
  /** `error`, where there is one, is told as code, sentence and cause; of a bug also its place. */
  say(event: EventName, fields?: Fields, error?: unknown): void;
  /** A log whose every line has these fields too: the run's, the device's. */
  of(fields: Fields): Log;
};

export type LogOptions = {
  readonly level?: Level;
  readonly format?: "json" | "text";
  /** One line, without its end. */
  readonly write: (line: string) => void;
  readonly clock: Clock;
};

const MAX_CHARS = 500;
const MAX_STACK_CHARS = 2_000;
const MAX_FIELDS = 32;

/** For whoever watches nothing. */
export const NO_LOG: Log = { say: () => {}, of: () => NO_LOG };

export function openLog({ level = "info", format = "json", write, clock }: LogOptions): Log {
  const repeats = new Repeats(clock);
  const line = format === "json" ? jsonLine : textLine;
  const put = (event: EventName, fields: Fields) => {
    const [rank] = EVENTS[event];
    if (LEVELS.indexOf(rank) < LEVELS.indexOf(level)) return;
    const about = Object.entries(fields).filter(([, value]) => value !== undefined);
    const clean = about.slice(0, MAX_FIELDS).map(([name, value]) => [name, cleaned(value, name)] as const);
    write(line({ at: new Date(clock.wallMs()).toISOString(), level: rank, event }, clean));
  };
  const about = (own: Fields): Log => ({
    say(event, fields, error) {
      const whole = { ...own, ...fields, ...(error === undefined ? {} : told(error)) };
      for (const { of, count } of repeats.over()) put("log.suppressed", { of, count });
      const [rank] = EVENTS[event];
      const often = rank === "warn" || rank === "error";
      if (!often || repeats.mayPass(event, `${whole.doing} ${whole.error}`)) put(event, whole);
    },
    of: (fields) => about({ ...own, ...fields }),
  });
  return about({});
}

/** An error as fields: the Fault's code and sentence, what caused it; of a bug also where. */
function told(error: unknown): Fields {
  const { code, message, cause } = asFault(error);
  const stack = error instanceof Fault ? undefined : (error as Error | undefined)?.stack;
  const because = error instanceof Fault && cause instanceof Error ? cause.message : undefined;
  return { code, error: message, because, stack };
}

function cleaned(value: unknown, name: string): string | number | boolean {
  if (typeof value === "number" || typeof value === "boolean") return value;
  // The type says text; whatever else comes at run time is not printed.
  if (typeof value !== "string") return `[${typeof value}]`;
  return redact(value.slice(0, name === "stack" ? MAX_STACK_CHARS : MAX_CHARS));
}

type Head = { readonly at: string; readonly level: Level; readonly event: EventName };
type Cleaned = readonly (readonly [name: string, value: string | number | boolean])[];

function jsonLine(head: Head, fields: Cleaned): string {
  // No field takes the place of the head's three.
  return JSON.stringify({ ...head, ...Object.fromEntries(fields.filter(([name]) => !(name in head))) });
}

/** For people: values with spaces or odd characters are quoted, so that a line is one line. */
function textLine({ at, level, event }: Head, fields: Cleaned): string {
  const said = fields.map(([name, value]) => {
    const text = String(value);
    return `${name}=${/^[\w.:/@[\]…-]+$/.test(text) ? text : JSON.stringify(text)}`;
  });
  return [at, level.padEnd(5), event, ...said].join(" ");
}
